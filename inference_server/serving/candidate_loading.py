"""From a candidate to a servable: its bytes, vetting, the contract of what it replaces, loading."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from inference_server.core.clock import Clock
from inference_server.core.servable import Servable, VettingResult
from inference_server.serving.archive import ArchiveError
from inference_server.serving.background import Background
from inference_server.serving.changes import Changes
from inference_server.serving.compatibility import Promise, change_refusal, contract_changes
from inference_server.serving.loader import Loader, LoadError
from inference_server.serving.recorder import Recorder
from inference_server.serving.repository import Candidate, ModelRepository, Source
from inference_server.serving.vetting import Verdict, Vetting

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedCandidate:
    """A servable that nobody can call yet, with the bytes that it was made of."""

    servable: Servable
    vetting: VettingResult
    model: bytes


@dataclass(frozen=True, slots=True)
class _Passed:
    verdict: Verdict
    at_ns: int


class CandidateLoading:
    """Loads candidates, each by itself; several at once.

    Bytes that passed vetting are not vetted again under the same name, as long as they are among the last
    `max_verdicts`: a rollback is to be quick. What must go on when a load is cancelled goes on in
    `background`.
    """

    def __init__(
        self,
        *,
        repository: ModelRepository,
        recorder: Recorder,
        vetting: Vetting,
        loader: Loader,
        clock: Clock,
        background: Background,
        changes: Changes,
        max_verdicts: int = 64,
    ) -> None:
        self._repository = repository
        self._recorder = recorder
        self._vetting = vetting
        self._loader = loader
        self._clock = clock
        self._background = background
        self._changes = changes
        self._max_verdicts = max_verdicts
        self._passed: OrderedDict[tuple[str, str], _Passed] = OrderedDict()
        self._uploads: dict[Candidate, bytes] = {}

    def __repr__(self) -> str:
        return f"<CandidateLoading {len(self._passed)} verdicts, {len(self._uploads)} uploads>"

    def hand_in(self, candidate: Candidate, model: bytes) -> None:
        """Keep an upload's bytes until `drop_uploads`."""
        self._uploads[candidate] = model

    def drop_uploads(self, name: str) -> None:
        """Forget the bytes of all uploads of a model, those that were never loaded too."""
        for candidate in [candidate for candidate in self._uploads if candidate.id.name == name]:
            del self._uploads[candidate]

    async def load(
        self, candidate: Candidate, replaced: Callable[[], tuple[str, Promise] | None]
    ) -> LoadedCandidate:
        """Return it loaded and warmed up. LoadError says why it is refused; ChangedError: it is another now.

        `replaced`, asked once vetting has passed, returns what the candidate would replace and must promise
        the same as, with a name for it; None: nothing. Cancelled, a load that a thread has begun is undone
        as soon as it ends.
        """
        model = await self._read(candidate)
        passed = await self._vet(candidate, model)
        if (old := replaced()) is not None:
            name, promise = old
            if changes := contract_changes(promise, passed.verdict):
                allow = f"--allow-contract-change {candidate.id.name} lets it"
                raise LoadError(f"{change_refusal(name, changes)}; {allow}", "compare")
        began_ns = self._clock.monotonic_ns()
        load = asyncio.create_task(
            asyncio.to_thread(
                self._loader.load, candidate.id, candidate.digest, model, passed.verdict.memory_bytes
            )
        )
        try:
            servable = await asyncio.shield(load)
        except asyncio.CancelledError:
            # The thread cannot be stopped: what it loads is closed as soon as it comes.
            self._background.begin(_close(load))
            raise
        self._changes.loaded(candidate.id.name, self._clock.monotonic_ns() - began_ns)
        result = VettingResult(
            vetted_at_ns=passed.at_ns,
            verified=passed.verdict.contract is not None,
            text=passed.verdict.steps[-1].text,
            memory_bytes=passed.verdict.memory_bytes,
            steady=passed.verdict.steady,
        )
        return LoadedCandidate(servable, result, model)

    async def _read(self, candidate: Candidate) -> bytes:
        match candidate.source:
            case Source.REPOSITORY:
                return await asyncio.to_thread(self._repository.read, candidate)
            case Source.ARCHIVE:
                try:
                    return await self._recorder.read(candidate.digest)
                except ArchiveError as error:
                    raise LoadError(f"its bytes were not kept: {error}", "bytes") from None
            case Source.UPLOAD:
                if candidate in self._uploads:
                    return self._uploads[candidate]
                try:
                    return await self._recorder.read(candidate.digest)
                except ArchiveError:
                    text = "its bytes came with a call and are not kept; load it again"
                    raise LoadError(text, "bytes") from None

    async def _vet(self, candidate: Candidate, model: bytes) -> _Passed:
        key = (candidate.digest, candidate.id.name)
        passed = self._passed.get(key)
        if passed is None:
            began_ns = self._clock.monotonic_ns()
            verdict = await self._vetting.vet(model, candidate.id.name)
            self._changes.vetted(candidate.id.name, self._clock.monotonic_ns() - began_ns)
            if verdict.refusal:
                raise LoadError(verdict.refusal, verdict.refused_at)
            if verdict.digest != candidate.digest:
                raise LoadError("vetting judged other bytes than these", "vetting")
            log.info("vetted %s", candidate)
            passed = self._passed[key] = _Passed(verdict, self._clock.wall_ns())
            if len(self._passed) > self._max_verdicts:
                self._passed.popitem(last=False)
        self._passed.move_to_end(key)
        return passed


async def _close(load: "asyncio.Task[Servable]") -> None:
    try:
        servable = await load
        await asyncio.to_thread(servable.close)
    except Exception:  # nobody waits for this
        log.exception("closing what was loaded in vain failed")
