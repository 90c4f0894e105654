"""A live run: everything built in one place, and stopped in reverse."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strategy_client.audit import AuditLog
from strategy_client.bindings import Bindings
from strategy_client.configuration import name_error
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.live.account import Account
from strategy_client.live.changeover import Changed, Changeover, brokers_of, has_shadow
from strategy_client.live.configuration_watch import ConfigurationWatch
from strategy_client.live.intake import STOP_S, Intake
from strategy_client.live.journal import Journal
from strategy_client.live.loop import LiveLoop
from strategy_client.live.prepared_factory import PreparedFactory
from strategy_client.live.recorder import MAX_BYTES, Recorder, make_room
from strategy_client.live.run_files import RunFiles
from strategy_client.live.shadow_predictor import ShadowPredictor
from strategy_client.live.silence import SILENT_AFTER_S, SilenceWatch
from strategy_client.live.view import Parts, View
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import Transport
from strategy_client.recording.file_names import LATENCY, OUTCOMES, REPORT, SHADOWS, SIGNALS, SUMMARY
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sinks.fan_out import FanOut
from strategy_client.sources.bad_line import BadLines
from strategy_client.sources.source import TickSource
from strategy_client.store.store import StrategySet, StrategyStore

DEADLINE_MS: Final = 50.0
MAX_TICK_AGE_MS: Final = 1_000.0
# What a tick in hand may take beyond its deadline before a stop goes on without it.
LAST_TICK_S: Final = 5.0
FLUSH_S: Final = 5.0
MS_PER_S: Final = 1_000
# What a run may leave in its folder, `report` included.
FILES: Final = (
    *(SIGNALS, OUTCOMES, SHADOWS),
    *(LATENCY, SUMMARY, REPORT),
)


@dataclass(frozen=True, slots=True)
class Strategies:
    """What runs first, the place that may change it, and the factory that made it."""

    store: StrategyStore
    running: StrategySet
    factory: PreparedFactory


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What bounds a live run, and where it writes.

    `max_tick_age_ms` and `max_behind_s` None take ticks of any age; `silent_after_s` 0 watches no silence.
    `out` gets what a replay's folder gets, up to `max_out_bytes`.
    """

    targets: Sequence[str]
    security: Security | None = None
    transport: Transport = "auto"
    deadline_ms: float = DEADLINE_MS
    max_tick_age_ms: float | None = MAX_TICK_AGE_MS
    max_behind_s: float | None = None
    silent_after_s: float = SILENT_AFTER_S
    audit: Path | None = None
    out: Path | None = None
    max_out_bytes: int = MAX_BYTES


class LiveRun:
    """Runs strategies over the ticks of a source, until it ends or `stop`.

    Use it as a context manager: entering starts it, leaving stops it in order. `tokens` is the very set that
    the source looks at; it follows the configuration. An absent sidecar is no reason not to start (H1):
    traditional strategies run, learned ones say UNAVAILABLE until it is there. Raises ConfigurationError,
    TargetError, SecurityError, AuditError or OSError for what cannot be run or written.
    """

    def __init__(
        self,
        options: LiveOptions,
        strategies: Strategies,
        source: TickSource,
        *,
        tokens: set[int],
        bad: BadLines,
        fan_out: FanOut | None = None,
    ) -> None:
        self.options = options
        self.bad = bad
        self.journal = Journal()
        self.account = Account(options.deadline_ms)
        self._ended = threading.Event()
        self._fan_out = fan_out
        with ExitStack() as stack:
            executors = create_executors(strategies.running.strategies, strategies.factory)
            wanted = wanted_models(executors, options.targets)
            connect = partial(
                Endpoints, options.targets, security=options.security, transport=options.transport
            )
            self._predictor = stack.enter_context(connect())
            self._shadows = ShadowPredictor(connect)
            stack.callback(self._shadows.close)
            if has_shadow(executors):
                self._shadows.open()
            self._bindings = Bindings(wanted, self._predictor.describe)
            self.runner = StrategyRunner(
                executors,
                self._predictor,
                self._bindings,
                RunnerOptions(
                    deadline_ms=options.deadline_ms,
                    max_tick_age_ms=options.max_tick_age_ms,
                    max_behind_s=options.max_behind_s,
                ),
                shadow_predictor=self._shadows,
            )
            self.account.run(executors)
            self.intake = Intake(source)
            self._silence = SilenceWatch(options.silent_after_s, self.runner.instruments, time.monotonic_ns())
            tokens.update(self.runner.instruments)
            if fan_out is not None:
                fan_out.set_brokers(brokers_of(executors))
            self._audit = None
            if options.audit is not None:
                self._audit = stack.enter_context(AuditLog(options.audit, executors, self._bindings))
            self._files: RunFiles | None = None
            self._recorder = self._open_recorder(stack)
            self._watch = ConfigurationWatch(
                strategies.store,
                strategies.running,
                self.journal,
                wake=self.intake.wake,
                prepare=strategies.factory.prepare,
            )
            self.view = View(self._parts(), options.deadline_ms)
            self.loop = self.view.loop = self._make_loop(strategies, tokens)
            self._built = stack.pop_all()
        self._thread = threading.Thread(target=self._run, name="tickserve-loop", daemon=True)
        self._binder = threading.Thread(target=self._bindings.start, name="tickserve-binder", daemon=True)

    def __repr__(self) -> str:
        return f"<LiveRun {self.loop!r}>"

    def __enter__(self) -> Self:
        # The sidecar is asked on a thread: one that is absent holds up nothing.
        self._binder.start()
        if self._recorder is not None:
            self._recorder.start()
        self._watch.start()
        self._thread.start()
        self.intake.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def failed(self) -> bool:
        """Whether the source failed, or the loop ended by a bug or did not come round when it was stopped."""
        return bool(self.intake.problem or self.journal.counts.get("loop ended"))

    @property
    def files(self) -> Mapping[str, Path]:
        """What the run writes, by what it holds; the summary is for its end."""
        if self._files is None or self.options.out is None:
            return {}
        return {**self._files.paths, "summary": self.options.out / SUMMARY}

    def wait(self, timeout_s: float) -> bool:
        """Wait until there are no more ticks; False when there may be some after `timeout_s`."""
        return self._ended.wait(timeout_s)

    def reload(self) -> None:
        """Have the configuration read again soon."""
        self._watch.ask()

    def stop(self) -> None:
        """Stop reading, finish the tick in hand, write and deliver what is queued, each within a bound."""
        self.view.stopping = True
        if not self.intake.close():
            self.journal.problem("source", f"it did not let go within {STOP_S:g} s")
        self._thread.join(self.options.deadline_ms / MS_PER_S + LAST_TICK_S)
        if self._thread.is_alive():
            self.journal.problem("loop ended", f"the tick in hand took more than {LAST_TICK_S:g} s")
        self._watch.close()
        if self._fan_out is not None:
            self._fan_out.close(FLUSH_S)
        if self._recorder is not None:
            self._recorder.close(FLUSH_S)
        # The predictor before the bindings, which would wait for an answer to the end of its time.
        self._predictor.close()
        self._shadows.close()
        self._bindings.close()
        self._binder.join(STOP_S)
        self._built.close()
        if not self._thread.is_alive():
            self.view.refresh()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:  # noqa: BLE001 told: what ends the loop is the first thing that anybody asks
            self.journal.problem("loop ended", name_error(error), error=error)
        finally:
            self._ended.set()

    def _open_recorder(self, stack: ExitStack) -> Recorder | None:
        folder = self.options.out
        if folder is None:
            return None
        make_room(folder, FILES)
        files = stack.enter_context(RunFiles(folder))
        self._files = files
        return Recorder(files, self.journal, self.options.max_out_bytes)

    def _parts(self) -> Parts:
        return Parts(
            self.runner,
            self.intake,
            self.account,
            self._silence,
            self.journal,
            self._watch,
            self._bindings,
            self._predictor,
            self.bad,
            self._recorder,
            self._fan_out,
            self._audit,
        )

    def _make_loop(self, strategies: Strategies, tokens: set[int]) -> LiveLoop:
        changeover = Changeover(
            self._watch,
            strategies.running,
            factory=strategies.factory,
            changed=Changed(
                self.runner,
                self.account,
                self._silence,
                tokens,
                self._bindings,
                self._shadows,
                self.options.targets,
                self._fan_out,
                self._audit,
            ),
            journal=self.journal,
            now_ns=time.monotonic_ns,
        )
        listeners = [self.account, self._fan_out, self._audit, self._recorder]
        return LiveLoop(
            self.runner,
            self.intake,
            [each for each in listeners if each is not None],
            silence=self._silence,
            journal=self.journal,
            apply_changes=changeover.apply,
            look=self.view.refresh,
        )
