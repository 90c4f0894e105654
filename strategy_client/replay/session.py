"""A recorded session run through the strategies, tick by tick, with the same bytes out each time."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strategy_client.bindings import Bindings
from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, TicksConfig
from strategy_client.events import MarketTick, Outcome, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.client import InferenceClient
from strategy_client.replay.pace import Pace
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.sidecar import OwnSidecar
from strategy_client.replay.summary import Replaced, Summary, TickLog, summarise
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sinks.jsonl import JsonLinesFile, outcomes_record, signal_record
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.sources.tick_file import merged, open_ticks

DEADLINE_MS: Final = 5_000.0
CONNECT_TIMEOUT_S: Final = 10.0
PROGRESS_EVERY_TICKS: Final = 256

# Called now and then with the number of ticks so far and the part of the input that was read, 0 to 1.
Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay. `speed` None is as fast as possible, else a multiple of the ticks' own pace.

    `skip` ticks are left out at the start; `limit` and the places of replacements count from there.
    Without a `target` a sidecar is started over a copy of `models`. The deadline is long by default, so that
    a machine that is busy for a moment does not change the bytes.
    """

    ticks: Sequence[Path]
    strategies: Sequence[StrategyConfig]
    columns: TicksConfig
    out: Path
    target: str | None = None
    models: Path = Path("models")
    speed: float | None = None
    skip: int = 0
    limit: int | None = None
    deadline_ms: float = DEADLINE_MS
    replacements: Sequence[Replacement] = ()
    strict: bool = False


@dataclass(slots=True)
class Sidecar:
    """The sidecar of a replay, if any strategy needs one; `own` where it was started for this replay."""

    client: InferenceClient | None = None
    bindings: Bindings | None = None
    own: OwnSidecar | None = None


class Replay:
    """One run. Raises on the way: ConfigurationError, BadFileError, BadLineError, SidecarError.

    `factory` makes the processors. `acts` are called just before the tick of their index, for what else is to
    happen at that point; they are given the replay's sidecar.
    """

    def __init__(
        self,
        options: ReplayOptions,
        factory: StrategyFactory | None = None,
        acts: Mapping[int, Callable[[Sidecar], None]] | None = None,
    ) -> None:
        self._options = options
        self._executors = create_executors(options.strategies, factory or StrategyFactory())
        self._wanted = wanted_models(self._executors)
        self._acts = dict(acts or {})
        self._replaced: list[Replaced] = []
        if options.target is not None and options.replacements:
            raise ConfigurationError(
                Problem("--replace", "needs a sidecar of its own; expected no --target beside it")
            )
        self._replacements: dict[int, list[Replacement]] = {}
        for replacement in options.replacements:
            self._replacements.setdefault(replacement.tick, []).append(replacement)

    def run(self, progress: Progress = lambda _ticks, _part: None) -> Summary:
        """Replay all ticks, write the files, return the summary. What was started is stopped in any case."""
        bad = BadLines(strict=self._options.strict)
        with ExitStack() as stack:
            tokens = {token for e in self._executors for token in e.config.instrument_tokens}
            files = [open_ticks(path, self._options.columns, tokens, bad) for path in self._options.ticks]
            sidecar = self._open_sidecar(stack)
            runner = StrategyRunner(
                self._executors,
                sidecar.client,
                sidecar.bindings,
                RunnerOptions(deadline_ms=self._options.deadline_ms),
            )
            self._options.out.mkdir(parents=True, exist_ok=True)
            paths = {name: self._options.out / f"{name}.jsonl" for name in ("signals", "outcomes")}
            signals = stack.enter_context(JsonLinesFile(paths["signals"]))
            outcomes = stack.enter_context(JsonLinesFile(paths["outcomes"]))

            def report(ticks: int) -> None:
                progress(ticks, sum(file.progress() for file in files) / len(files))

            log = TickLog()
            started_ns = time.monotonic_ns()
            for index, tick, came in self._process(merged(files), runner, sidecar, log):
                outcomes.write(outcomes_record(index, tick, came))
                for outcome in came:
                    if isinstance(outcome, Signal):
                        signals.write(signal_record(index, outcome))
                if index % PROGRESS_EVERY_TICKS == 0:
                    report(index)
            duration_ns = time.monotonic_ns() - started_ns
            report(len(log.durations_ns))
            calls = sidecar.client.counts if sidecar.client else None
        if not log.durations_ns:
            first = f"; the first bad line: {bad.first[0]}" if bad.first else ""
            raise BadFileError(f"{self._options.ticks[0]}: expected at least one tick{first}")
        paths["summary"] = self._options.out / "summary.json"
        summary = summarise(
            self._executors,
            log,
            runner.answered_by,
            edge=runner.counts,
            bad=bad,
            replaced=self._replaced,
            calls=calls,
            duration_ns=duration_ns,
            files=paths,
        )
        paths["summary"].write_text(json.dumps(summary.to_json(), indent=2) + "\n", encoding="utf-8")
        return summary

    def _process(
        self, ticks: Iterable[MarketTick], runner: StrategyRunner, sidecar: Sidecar, log: TickLog
    ) -> Iterable[tuple[int, MarketTick, list[Outcome]]]:
        pace = Pace(self._options.speed)
        limit = self._options.limit
        for index, tick in enumerate(itertools.islice(ticks, self._options.skip, None)):
            if index == limit:
                return
            self._act(index, sidecar)
            pace.wait_for(tick)
            began_ns = time.monotonic_ns()
            came = runner.process(tick)
            log.durations_ns.append(time.monotonic_ns() - began_ns)
            log.by_instrument[tick.instrument_token] += 1
            yield index, tick, came

    def _act(self, index: int, sidecar: Sidecar) -> None:
        for replacement in self._replacements.get(index, ()):
            if sidecar.own is None or sidecar.client is None or sidecar.bindings is None:
                raise ConfigurationError(
                    Problem("--replace", "no strategy is learned, so there is no model to replace")
                )
            refused = sidecar.own.replace(sidecar.client, replacement.model, replacement.file)
            sidecar.bindings.refresh()
            digest = hashlib.sha256(replacement.file.read_bytes()).hexdigest()
            self._replaced.append(Replaced(index, replacement.model, str(replacement.file), digest, refused))
        if index in self._acts:
            self._acts[index](sidecar)

    def _open_sidecar(self, stack: ExitStack) -> Sidecar:
        if not self._wanted:
            return Sidecar()
        sidecar = Sidecar()
        # The process first: a fork is safest before gRPC has threads.
        if self._options.target is None:
            sidecar.own = stack.enter_context(OwnSidecar(self._options.models))
        target = self._options.target or (sidecar.own.target if sidecar.own else "")
        client = sidecar.client = stack.enter_context(InferenceClient(target))
        if sidecar.own is not None:
            sidecar.own.wait_ready(client)
        else:
            client.wait_ready(CONNECT_TIMEOUT_S)
        sidecar.bindings = Bindings(self._wanted, client.describe)
        stack.callback(sidecar.bindings.close)
        sidecar.bindings.start()
        return sidecar
