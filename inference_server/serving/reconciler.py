"""Makes what is served follow what lies in the repository: the shell around `Lifecycle`.

One task scans, another listens to the watcher, and each load is a task of its own, so that a file that hangs
its judge holds up nobody else. Reading, vetting, loading, draining and closing happen off the event loop or
in tasks of their own, so calls never wait for them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from inference_server.core.clock import Clock
from inference_server.core.servable import Servable, ServableId
from inference_server.serving.background import Background
from inference_server.serving.candidate_loading import CandidateLoading
from inference_server.serving.changes import Changes
from inference_server.serving.compatibility import Promise
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.loader import LoadError, NoRoomError
from inference_server.serving.model_versions import Load, Retire
from inference_server.serving.recorder import Recorder
from inference_server.serving.registry import Entry, Registry, Standing
from inference_server.serving.repository import (
    DIGEST_SHOWN,
    Candidate,
    ChangedError,
    ModelRepository,
    Scan,
    Watcher,
    told,
)
from inference_server.serving.settings import ModelSettings

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcilerOptions:
    """Pauses and bounds.

    `retry_s`: pause after something unexpected. `recheck_s`: pause before the next look when a file changed
    between its finding and its reading. `drain_s`: how long `stop` waits for runs under way, whose callers
    the listener has drained or cut before. `loads_at_once`: of different models. `watch_after_s`: how long
    watching waits for what lies there at the start. To begin it takes as long as to judge ten small models,
    and what comes meanwhile is not missed, for a watch that begins asks for a look.
    """

    retry_s: float = 1.0
    recheck_s: float = 0.05
    drain_s: float = 1.0
    loads_at_once: int = 4
    watch_after_s: float = 0.5


@dataclass(eq=False, slots=True)
class _Ask:
    """A wish to have a model loaded as the look of this number, or a later one, finds it."""

    name: str
    look: int
    found: bool = False


class Reconciler:
    """Keeps the registry as the lifecycle wants it, from `start` to `stop`.

    `watcher` None: control is explicit. Then a look loads nothing but what `load_from_repository` names, and
    `load_at_start`. What is left in `background` is ended by `stop`.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        lifecycle: Lifecycle,
        repository: ModelRepository,
        watcher: Watcher | None,
        loading: CandidateLoading,
        recorder: Recorder,
        background: Background,
        changes: Changes,
        clock: Clock,
        options: ReconcilerOptions | None = None,
        load_at_start: Collection[str] = (),
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._repository = repository
        self._watcher = watcher
        self._loading = loading
        self._recorder = recorder
        self._background = background
        self._changes = changes
        self._clock = clock
        self._options = options or ReconcilerOptions()
        self._wanted = asyncio.Event()
        self._looks_asked = 0
        self._looks_done = 0
        self._at_rest = False
        self._progress = asyncio.Event()
        self._asks = {_Ask(name, look=0) for name in load_at_start}
        self._found_at_start: frozenset[str] | None = None
        self._problems_told: frozenset[tuple[str, str]] = frozenset()
        self._shown: dict[str, frozenset[ServableId]] = {}
        self._behind_since_ns: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loads: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(self._options.loads_at_once)

    def __repr__(self) -> str:
        state = "running" if self._tasks else "stopped"
        return f"<Reconciler {state}, {len(self._loads)} loading, {self._background}, {self._lifecycle}>"

    def start(self) -> None:
        """Begin to watch and act; returns at once. `settled` waits for the first look's outcome."""
        self.look()
        self._tasks = [asyncio.create_task(self._look_again_and_again())]
        if self._watcher is not None:
            self._tasks.append(asyncio.create_task(self._listen(self._watcher)))

    async def stop(self) -> None:
        """Stop acting, retire everything and close it. Waits at most `drain_s` for calls in flight."""
        stopping = [*self._tasks, *self._loads]
        for task in stopping:
            task.cancel()
        self._tasks = []
        await asyncio.gather(*stopping, return_exceptions=True)
        for model in self._registry.describe():
            for version in model.versions:
                if self._registry.model_ready(model.name, version.id.version):
                    self._retire(version.id)
        if busy := await self._background.end(self._options.drain_s):
            log.warning("stopped with work still under way tasks=%d", busy)

    async def settled(self) -> None:
        """Wait until all that lies in the repository now is served or refused.

        A file that is being written holds this up until it is complete or its problem is told.
        """
        self._looks_asked += 1
        ours = self._looks_asked
        self.look()
        await self.until(lambda: self._looks_done >= ours and self._at_rest and not self._loads)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, which is asked after each look, load and act."""
        while not condition():
            await self._progress.wait()

    def look(self) -> None:
        """Have the repository looked at soon."""
        self._wanted.set()

    def set_settings(self, settings: Mapping[str, ModelSettings]) -> None:
        """Take over what the operator says of every model; it is acted on at once."""
        self._lifecycle.set_settings(settings)
        self.act()

    async def load_from_repository(self, name: str) -> bool:
        """Under explicit control: hand what lies there of a model to the lifecycle, once it is complete.

        Returns whether anything lies there. Cancelled, it asks no longer.
        """
        self._looks_asked += 1
        ask = _Ask(name, look=self._looks_asked)
        self._asks.add(ask)
        self.look()
        try:
            await self.until(lambda: ask not in self._asks)
        finally:
            self._asks.discard(ask)
        return ask.found

    def load_uploads(self, name: str, uploads: Mapping[Candidate, bytes]) -> None:
        """Under explicit control: hand bytes to the lifecycle, which are served instead of files."""
        for candidate, model in uploads.items():
            self._loading.hand_in(candidate, model)
        self._lifecycle.load(name, {candidate.id.version: candidate for candidate in uploads}, ())
        self.act()

    def act(self) -> None:
        """Begin all that the lifecycle asks for, and show what it says; nothing once it is stopped."""
        if not self._tasks:
            return
        while action := self._lifecycle.next_action():
            match action:
                case Retire(id_):
                    self._retire(id_)
                case Load(candidate):
                    task = asyncio.create_task(self._load(candidate))
                    self._loads.add(task)
                    task.add_done_callback(self._load_ended)
        self._show()
        self._progress.set()
        self._progress = asyncio.Event()

    async def record(self, name: str) -> None:
        """Write down what is to be remembered of a model, and return when it is written."""
        await self._recorder.write((name,))

    # The two tasks.

    async def _listen(self, watcher: Watcher) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.watch_after_s):
                await self.until(lambda: self._at_rest and not self._loads)
        while True:
            try:
                async for _ in watcher.changes():
                    self.look()
            except Exception:  # a watcher that fails is started again; without it nothing would be seen
                log.exception("watching the repository failed; starting again")
            await asyncio.sleep(self._options.retry_s)
            self.look()

    async def _look_again_and_again(self) -> None:
        again_s: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._wanted.wait()
            self._wanted.clear()
            self._at_rest = False
            look = self._looks_asked
            try:
                scan = await asyncio.to_thread(self._repository.scan)
                self._take(scan, look)
                again_s = scan.again_s
                self._looks_done = look
                self._at_rest = not scan.unsettled and not self._wanted.is_set()
                self.act()
            except Exception:  # nothing that goes wrong in here may end the watching
                log.exception("looking at the repository failed; trying again")
                again_s = self._options.retry_s

    def _take(self, scan: Scan, look: int) -> None:
        self._lifecycle.found(scan.candidates, scan.problems)
        answered = {it for it in self._asks if it.look <= look and it.name not in scan.unsettled}
        self._asks -= answered
        for ask in answered:
            ask.found = ask.name in scan.names
        for name in {ask.name for ask in answered if ask.found}:
            candidates = {it.id.version: it for it in scan.candidates if it.id.name == name}
            self._lifecycle.load(name, candidates, scan.problems.get(name, ()))
        if self._watcher is not None:
            self._require(scan.names)
        self._tell(scan.problems)

    def _require(self, names: frozenset[str]) -> None:
        """Require what was found at the start, less what was removed since without ever being served."""
        if self._found_at_start is None:
            self._found_at_start = names
        self._found_at_start &= names | self._lifecycle.names()
        self._registry.require(self._found_at_start)

    def _tell(self, problems: Mapping[str, tuple[str, ...]]) -> None:
        """Log each problem once, when it appears."""
        found = frozenset((name, text) for name, texts in problems.items() for text in texts)
        for name, text in sorted(found - self._problems_told):
            log.warning("problem model=%s %s", name, text)
            self._changes.refused(name, "file")
        self._problems_told = found

    # One load.

    async def _load(self, candidate: Candidate) -> None:
        async with self._turns:
            id_ = candidate.id
            log.info("found %s", candidate)
            try:
                loaded = await self._loading.load(candidate, lambda: self._replaced_by(candidate))
            except LoadError as error:
                self._lifecycle.refused(candidate, str(error), for_room=isinstance(error, NoRoomError))
                self._changes.refused(id_.name, error.step)
                log.warning("refused %s %s", candidate, error)
                return
            except ChangedError as error:
                await self._changed(candidate, error)
                return
            except Exception:  # whatever a loader raises, the next file deserves its turn
                self._lifecycle.refused(candidate, "loading failed unexpectedly; the traceback is in the log")
                self._changes.refused(id_.name, "unexpected")
                log.exception("refused %s", candidate)
                return
            model = self._lifecycle.model(id_.name)
            if model is None or not model.wants(candidate):
                self._lifecycle.postponed(candidate)
                log.info("given up %s", candidate)
                self._background.begin(self._close(_at_once(loaded.servable)))
                return
            self._lifecycle.published(candidate)
            replaced = self._registry.publish(
                loaded.servable, self._clock.wall_ns(), loaded.vetting, self._standing(id_.name)
            )
            log.info("available %s warm_up_us=%.1f", candidate, loaded.servable.warm_up_ns / 1000)
            if replaced is not None:
                self._background.begin(self._close(replaced.drain()))
            if candidate.digest in {kept.digest for kept in model.remembered.served}:
                self._background.begin(self._keep(candidate, loaded.model))

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        if not task.cancelled():
            self.act()

    async def _changed(self, candidate: Candidate, error: ChangedError) -> None:
        """Have a file that is not what it was looked at again before anything else is done about it."""
        if self._watcher is None:
            self._lifecycle.refused(candidate, f"{error}; load it again")
            return
        await asyncio.sleep(self._options.recheck_s)
        self._looks_asked += 1
        ours = self._looks_asked
        self.look()
        await self.until(lambda: self._looks_done >= ours)
        self._lifecycle.postponed(candidate)

    def _replaced_by(self, candidate: Candidate) -> tuple[str, Promise] | None:
        model = self._lifecycle.model(candidate.id.name)
        version = model.replaced_by(candidate) if model is not None and not model.allow_contract_change else 0
        if not version:
            return None
        servable = self._registry.resolve(candidate.id.name, version).servable
        return f"version {version} ({servable.digest[:DIGEST_SHOWN]})", servable

    # Taking out of service.

    def _retire(self, id_: ServableId) -> None:
        self._background.begin(self._drain(id_, self._registry.retire(id_)))

    async def _drain(self, id_: ServableId, entry: Entry) -> None:
        await self._close(entry.drain())
        if id_ not in self._shown.get(id_.name, ()):
            self._registry.forget(id_)

    async def _close(self, drained: Awaitable[Servable]) -> None:
        try:
            servable = await drained
            await asyncio.to_thread(servable.close)
        except Exception:  # nobody waits for this task
            log.exception("closing a servable failed")
            return
        log.info("retired %s", told(servable.id, servable.digest))
        self._lifecycle.room_freed()
        self.act()

    # Telling.

    def _show(self) -> None:
        """Bring the registry to what the lifecycle says of the models to which something happened."""
        changed = self._lifecycle.take_changed()
        for name in changed:
            model = self._lifecycle.model(name)
            if model is None or not model.busy:
                self._loading.drop_uploads(name)
            statuses = {} if model is None else model.statuses()
            for id_ in self._shown.pop(name, frozenset()) - statuses.keys():
                self._registry.forget(id_)
            for status in statuses.values():
                self._registry.set_status(status)
            if statuses:
                self._shown[name] = frozenset(statuses)
            self._registry.set_standing(name, self._standing(name))
        if changed:
            self._background.begin(self._write(changed))

    async def _write(self, names: Collection[str]) -> None:
        try:
            await self._recorder.write(names)
        except Exception:  # nobody waits for this task
            log.exception("writing down what is to be remembered failed")
        for name in names:
            self._registry.set_standing(name, self._standing(name))

    async def _keep(self, candidate: Candidate, model: bytes) -> None:
        try:
            await self._recorder.keep(candidate.id.name, candidate.digest, model)
        except Exception:  # nobody waits for this task
            log.exception("keeping %s for a rollback failed", candidate)

    def _standing(self, name: str) -> Standing:
        model = self._lifecycle.model(name)
        if model is None:
            self._behind_since_ns.pop(name, None)
            return Standing()
        if model.behind():
            self._behind_since_ns.setdefault(name, self._clock.wall_ns())
        else:
            self._behind_since_ns.pop(name, None)
        return Standing(
            problem="; ".join(filter(None, (model.problem(), self._recorder.failure(name)))),
            refused=model.has_refused,
            behind_since_ns=self._behind_since_ns.get(name, 0),
            default_version=model.default_version(),
            pinned_version=model.pinned_version,
            labels=model.labels,
        )


async def _at_once(servable: Servable) -> Servable:
    return servable
