"""Makes what is served follow what lies in the repository: the shell around `Lifecycle`.

One task scans and acts, one load at a time; another listens to the watcher. Reading, vetting, loading,
draining and closing happen off the event loop or in tasks of their own, so calls never wait for them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Final

from inference_server.core.clock import Clock
from inference_server.core.servable import Servable, ServableId
from inference_server.serving.lifecycle import Lifecycle, Load, Retire
from inference_server.serving.loader import Loader, LoadError
from inference_server.serving.policy import VersionPolicy
from inference_server.serving.registry import Registry, Standing
from inference_server.serving.repository import Candidate, ChangedError, ModelRepository, Watcher
from inference_server.serving.vetting import Vetting

log: Final = logging.getLogger(__name__)

DIGEST_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class ReconcilerOptions:
    """Pauses and bounds.

    `retry_s`: pause after something unexpected. `recheck_s`: pause before the next look when a file changed
    between its finding and its reading. `drain_s`: how long `stop` waits for runs under way, whose callers
    the listener has drained or cut before.
    """

    retry_s: float = 1.0
    recheck_s: float = 0.05
    drain_s: float = 1.0


class Reconciler:
    """Keeps the registry as the lifecycle wants it, from `start` to `stop`."""

    def __init__(
        self,
        *,
        registry: Registry,
        lifecycle: Lifecycle,
        repository: ModelRepository,
        watcher: Watcher,
        vetting: Vetting,
        loader: Loader,
        clock: Clock,
        options: ReconcilerOptions | None = None,
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._repository = repository
        self._watcher = watcher
        self._vetting = vetting
        self._loader = loader
        self._clock = clock
        self._options = options or ReconcilerOptions()
        self._wanted = asyncio.Event()
        self._looks_asked = 0
        self._looks_done = 0
        self._progress = asyncio.Condition()
        self._found_at_start: frozenset[str] | None = None
        self._problems_told: frozenset[tuple[str, str]] = frozenset()
        self._shown: set[ServableId] = set()
        self._shown_names: frozenset[str] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        state = "running" if self._tasks else "stopped"
        return f"<Reconciler {state}, {len(self._retiring)} retiring, {self._lifecycle}>"

    def start(self) -> None:
        """Begin to watch and act; returns at once. `settled` waits for the first look's outcome."""
        self._wanted.set()
        self._tasks = [asyncio.create_task(self._act()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        """Stop acting, retire everything and close it. Waits at most `drain_s` for calls in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for model in self._registry.describe():
            for version in model.versions:
                if self._registry.model_ready(model.name, version.id.version):
                    self._in_background(self._retire(version.id))
        if self._retiring:
            _, busy = await asyncio.wait(self._retiring, timeout=self._options.drain_s)
            for task in busy:
                task.cancel()
            if busy:
                log.warning("stopped with runs still under way versions=%d", len(busy))

    async def settled(self) -> None:
        """Wait until all that lies in the repository now is served or refused.

        A file that is being written holds this up until it is complete or found to be broken.
        """
        self._looks_asked += 1
        ours = self._looks_asked
        self._wanted.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._looks_done >= ours)

    def set_policy(self, name: str, policy: VersionPolicy) -> None:
        """Change one model's version policy; it is acted on at once."""
        self._lifecycle.set_policy(name, policy)
        self._wanted.set()

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._watcher.changes():
                    self._wanted.set()
            except Exception:  # a watcher that fails is started again; without it nothing would be seen
                log.exception("watching the repository failed; starting again")
            await asyncio.sleep(self._options.retry_s)
            self._wanted.set()

    async def _act(self) -> None:
        again_s: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._wanted.wait()
            self._wanted.clear()
            look = self._looks_asked
            try:
                again_s = await self._look_and_act()
            except Exception:  # nothing that goes wrong in here may end the watching
                log.exception("looking at the repository failed; trying again")
                again_s = self._options.retry_s
            if again_s is None:
                async with self._progress:
                    self._looks_done = look
                    self._progress.notify_all()

    async def _look_and_act(self) -> float | None:
        """Scan once and do all that follows; return when to look again though nothing changes."""
        scan = await asyncio.to_thread(self._repository.scan)
        self._lifecycle.found(scan.candidates, scan.problems)
        self._require(scan.names)
        self._tell(scan.problems)
        self._show()
        while action := self._lifecycle.next_action():
            match action:
                case Retire(id_):
                    self._in_background(self._retire(id_))
                case Load(candidate):
                    self._show()
                    try:
                        await self._load(candidate)
                    except ChangedError:
                        self._lifecycle.postponed(candidate)
                        return self._options.recheck_s
            self._show()
        return scan.again_s

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
        self._problems_told = found

    async def _load(self, candidate: Candidate) -> None:
        id_, digest = candidate.id, candidate.digest
        log.info(_line("found", id_, digest))
        try:
            servable = await self._vet_and_load(candidate)
        except LoadError as error:
            self._lifecycle.refused(candidate, str(error))
            log.warning(_line("refused", id_, digest, str(error)))
            return
        except ChangedError:
            raise
        except Exception:  # whatever a loader raises, the next file deserves its turn
            self._lifecycle.refused(candidate, "loading failed unexpectedly; the traceback is in the log")
            log.exception(_line("refused", id_, digest))
            return
        replaced = self._registry.publish(servable, self._clock.wall_ns())
        self._lifecycle.published(candidate)
        log.info(_line("available", id_, digest, f"warm_up_us={servable.warm_up_ns / 1000:.1f}"))
        if replaced is not None:
            self._in_background(self._close(replaced.drain()))

    async def _vet_and_load(self, candidate: Candidate) -> Servable:
        model = await asyncio.to_thread(self._repository.read, candidate)
        verdict = await self._vetting.vet(model, candidate.id.name)
        if verdict.refusal:
            raise LoadError(verdict.refusal)
        log.info(_line("vetted", candidate.id, candidate.digest))
        load = asyncio.create_task(
            asyncio.to_thread(self._loader.load, candidate.id, candidate.digest, model, verdict.memory_bytes)
        )
        try:
            return await asyncio.shield(load)
        except asyncio.CancelledError:
            # The thread cannot be stopped: what it loads is closed as soon as it comes.
            self._in_background(self._close(load))
            raise

    async def _retire(self, id_: ServableId) -> None:
        await self._close(self._registry.retire(id_))
        if id_ not in self._shown:
            self._registry.forget(id_)

    async def _close(self, drained: Awaitable[Servable]) -> None:
        try:
            servable = await drained
            await asyncio.to_thread(servable.close)
        except Exception:  # nobody waits for this task
            log.exception("closing a servable failed")
            return
        log.info(_line("retired", servable.id, servable.digest))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _show(self) -> None:
        """Bring the registry's statuses and problems to what the lifecycle says."""
        statuses = self._lifecycle.statuses()
        for id_ in self._shown - statuses.keys():
            self._registry.forget(id_)
        for status in statuses.values():
            self._registry.set_status(status)
        self._shown = set(statuses)
        names = self._lifecycle.names()
        for name in names | self._shown_names:
            self._registry.set_standing(name, Standing(problem=self._lifecycle.problem(name)))
        self._shown_names = names


def _line(what: str, id_: ServableId, digest: str, detail: str = "") -> str:
    subject = f"{what} model={id_.name} version={id_.version} digest={digest[:DIGEST_SHOWN]}"
    return f"{subject} {detail}".rstrip()
