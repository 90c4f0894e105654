"""A recorded session run through the strategies, tick by tick, with the same bytes out each time."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.bindings import Bindings
from strategy_client.configuration import (
    ConfigurationError,
    Problem,
    StrategyConfig,
    TicksConfig,
    did_you_mean,
)
from strategy_client.events import MarketTick, ProcessedTick
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.listener import TickListener
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import Transport
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.recording.file_names import LATENCY, REPORT, SUMMARY
from strategy_client.recording.outcome_files import OutcomeFiles
from strategy_client.recording.summary import Replaced, Summary
from strategy_client.replay.closing import TickLog, summarise
from strategy_client.replay.collector import fewer_collections
from strategy_client.replay.listeners import Listeners
from strategy_client.replay.pace import Pace
from strategy_client.replay.replacement import Replacement
from strategy_client.replay.sidecar import Sidecar, open_sidecar
from strategy_client.replay.window import WINDOW_TICKS, TicksUntilError, WindowOptions, Windows
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.sources.tick_file import TickFile, merged, open_ticks

DEADLINE_MS: Final = 5_000.0
PROGRESS_EVERY_TICKS: Final = 256

# Called now and then with the number of ticks so far and the part of the input that was read, 0 to 1.
Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay. `speed` None is as fast as possible, else a multiple of the ticks' own pace.

    `skip` ticks are left out at the start; `limit` and the places of replacements count from there. As fast
    as possible, `window` ticks are asked in one request, with the same outcomes; 1 is tick by tick, which
    alone tells how long a tick takes.
    `security` is for the `targets`, `transport` for any sidecar. Without targets one serves a copy of
    `models`, which refuses a file of another contract than the one it is to replace, but for the models in
    `allow_contract_change`. The deadline is long by default, so that a machine that is busy for a moment does
    not change the bytes.
    `audit` is a folder to append an audit log to.
    """

    ticks: Sequence[Path]
    strategies: Sequence[StrategyConfig]
    columns: TicksConfig
    out: Path
    targets: Sequence[str] = ()
    security: Security | None = None
    transport: Transport = "auto"
    models: Path = Path("models")
    speed: float | None = None
    window: int = WINDOW_TICKS
    skip: int = 0
    limit: int | None = None
    deadline_ms: float = DEADLINE_MS
    replacements: Sequence[Replacement] = ()
    allow_contract_change: Collection[str] = ()
    strict: bool = False
    audit: Path | None = None


class Replay:
    """One run. Raises on the way: ConfigurationError, BadFileError, BadLineError, SidecarError.

    `factory` makes the processors. `acts` are called just before the tick of their index, for what else is to
    happen at that point; they are given the replay's sidecar. `listeners` are told of each tick, after the
    files of the replay.
    """

    def __init__(
        self,
        options: ReplayOptions,
        factory: StrategyFactory | None = None,
        acts: Mapping[int, Callable[[Sidecar], None]] | None = None,
        listeners: Sequence[TickListener] = (),
    ) -> None:
        self._options = options
        self._listeners = tuple(listeners)
        self._executors = create_executors(options.strategies, factory or StrategyFactory())
        self._wanted = wanted_models(self._executors, options.targets)
        self._has_shadows = any(
            isinstance(each.processor, LearnedProcessor) and shadow_of(each.processor) is not None
            for each in self._executors
        )
        self._acts = dict(acts or {})
        self._replaced: list[Replaced] = []
        for replacement in options.replacements:
            self._check(replacement)
        for model in options.allow_contract_change:
            self._check_model("--allow-contract-change", model)

    def run(self, progress: Progress = lambda _ticks, _part: None) -> Summary:
        """Replay all ticks, write the files, return the summary. What was started is stopped in any case."""
        bad = BadLines(strict=self._options.strict)
        with ExitStack() as stack:
            tokens = {token for e in self._executors for token in e.config.instrument_tokens}
            files = [
                stack.enter_context(closing(open_ticks(path, self._options.columns, tokens, bad)))
                for path in self._options.ticks
            ]
            ticks = self._open_ticks(files, bad)
            sidecar = open_sidecar(
                stack,
                self._wanted,
                targets=self._options.targets,
                security=self._options.security,
                transport=self._options.transport,
                models=self._options.models,
                allow_contract_change=self._options.allow_contract_change,
                has_shadows=self._has_shadows,
            )
            runner = StrategyRunner(
                self._executors,
                sidecar.client,
                sidecar.bindings,
                RunnerOptions(deadline_ms=self._options.deadline_ms),
                shadow_predictor=sidecar.shadows,
            )
            audits = self._open_audit(stack, sidecar.bindings)
            summary_path, latency_path, report_path = (
                self._options.out / name for name in (SUMMARY, LATENCY, REPORT)
            )
            files_written = stack.enter_context(OutcomeFiles(self._options.out))
            # Should this run be cut off, those of a run before would tell of other signals than these.
            summary_path.unlink(missing_ok=True)
            latency_path.unlink(missing_ok=True)
            report_path.unlink(missing_ok=True)

            def report(ticks: int) -> None:
                progress(ticks, sum(file.progress() for file in files) / len(files))

            told = [files_written, *audits, *self._listeners]
            listeners = Listeners(told, runner if self._has_shadows else None)
            log = TickLog()
            started_ns = time.monotonic_ns()
            process = self._process_windows if self._in_windows else self._process
            if self._in_windows:
                stack.enter_context(fewer_collections())
            for processed in process(ticks, runner, sidecar, log):
                listeners.took(processed)
                if processed.index % PROGRESS_EVERY_TICKS == PROGRESS_EVERY_TICKS - 1:
                    report(processed.index + 1)
                    # Not at the ticks' own pace, which nothing may hold up.
                    listeners.compare(wait=self._options.speed is None)
            listeners.compare(wait=True)
            duration_ns = time.monotonic_ns() - started_ns
            report(log.ticks)
            calls = sidecar.client.counts if sidecar.client else None
        paths = {**files_written.paths, "summary": summary_path}
        if log.durations_ns:
            paths["latency"] = latency_path
            np.save(latency_path, np.frombuffer(log.durations_ns, dtype=np.int64))
        summary = summarise(
            runner,
            log,
            shadows=listeners.shadows,
            deadline_ms=self._options.deadline_ms,
            bad=bad,
            replaced=[*self._replaced, *self._never_replaced(log.ticks)],
            calls=calls,
            duration_ns=duration_ns,
            window=self._options.window if self._in_windows else 1,
            files=paths,
            transports=sidecar.transports,
        )
        summary_path.write_text(json.dumps(summary.to_json(), indent=2) + "\n", encoding="utf-8")
        return summary

    @property
    def _in_windows(self) -> bool:
        # Where nobody is asked there is nothing to put together.
        return self._options.speed is None and self._options.window > 1 and bool(self._wanted)

    def _process(
        self, ticks: Iterable[MarketTick], runner: StrategyRunner, sidecar: Sidecar, log: TickLog
    ) -> Iterator[ProcessedTick]:
        pace = Pace(self._options.speed)
        for index, tick in enumerate(ticks):
            self._act(index, sidecar)
            pace.wait_for(tick)
            began_ns = time.monotonic_ns()
            came = runner.process(tick)
            duration_ns = time.monotonic_ns() - began_ns
            log.durations_ns.append(duration_ns)
            log.by_instrument[tick.instrument_token] += 1
            yield ProcessedTick(index, tick, came, duration_ns)

    def _process_windows(
        self, ticks: Iterable[MarketTick], runner: StrategyRunner, sidecar: Sidecar, log: TickLog
    ) -> Iterator[ProcessedTick]:
        if sidecar.client is None:
            raise RuntimeError("windows without a sidecar")
        options = WindowOptions(self._options.window)
        windows = Windows(runner, sidecar.client, self._options.deadline_ms, options)
        happens = {*self._acts, *(replacement.tick for replacement in self._options.replacements)}
        given = TicksUntilError(ticks)
        for index, tick in given:
            if index in happens:
                yield from windows.drain()
                self._act(index, sidecar)
            log.by_instrument[tick.instrument_token] += 1
            yield from windows.take(index, tick)
        yield from windows.drain()
        given.check()

    def _act(self, index: int, sidecar: Sidecar) -> None:
        for replacement in self._options.replacements:
            if replacement.tick == index:
                refused = sidecar.replace(replacement.model, replacement.file)
                self._replaced.append(_replaced(replacement, refused))
        if index in self._acts:
            self._acts[index](sidecar)

    def _never_replaced(self, ticks: int) -> Iterable[Replaced]:
        for replacement in self._options.replacements:
            if replacement.tick >= ticks:
                yield _replaced(replacement, f"the ticks ended before it, after {ticks}")

    def _check(self, replacement: Replacement) -> None:
        self._check_model("--replace", replacement.model)
        limit = self._options.limit
        if limit is not None and replacement.tick >= limit:
            text = f"tick {replacement.tick} never comes; expected one below the limit of {limit}"
            raise ConfigurationError(Problem("--replace", text))

    def _check_model(self, flag: str, model: str) -> None:
        asked = sorted({each.model.name for each in self._wanted})
        problem = ""
        if self._options.targets:
            problem = "needs a sidecar of its own; expected no --target beside it"
        elif not asked:
            problem = "no strategy is learned, so there is no model to replace"
        elif model not in asked:
            near = did_you_mean(model, asked)
            problem = f"no strategy asks {model!r}{near}; expected one of {', '.join(asked)}"
        if problem:
            raise ConfigurationError(Problem(flag, problem))

    def _open_ticks(self, files: Sequence[TickFile], bad: BadLines) -> Iterator[MarketTick]:
        # The first tick is read before anything is started or written: what is wrong with the whole file
        # costs nothing, least of all the files of a run before.
        skip, limit = self._options.skip, self._options.limit
        ticks = itertools.islice(merged(files), skip, None if limit is None else skip + limit)
        first = next(ticks, None)
        if first is None:
            after = f" after the {skip:,} that are skipped" if skip else ""
            why = f"; the first bad line: {bad.first[0]}" if bad.first else ""
            raise BadFileError(f"{self._options.ticks[0]}: expected at least one tick{after}{why}")
        return itertools.chain([first], ticks)

    def _open_audit(self, stack: ExitStack, bindings: Bindings | None) -> list[TickListener]:
        if self._options.audit is None:
            return []
        # Nobody waits for a replay, so that its log waits for the disk and has no gap.
        options = AuditOptions(patient=True)
        return [stack.enter_context(AuditLog(self._options.audit, self._executors, bindings, options))]


def _replaced(replacement: Replacement, refused: str) -> Replaced:
    digest = hashlib.sha256(replacement.file.read_bytes()).hexdigest()
    return Replaced(replacement.tick, replacement.model, str(replacement.file), digest, refused)
