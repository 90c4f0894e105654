"""Loads vetted bytes into servables. Equal bytes are one session, whatever the names and versions."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from inference_server.adapters.onnx_session import OnnxSession, lacks_memory, plain, sample_inputs
from inference_server.core.contract import METADATA_KEY, Contract
from inference_server.core.errors import ContractError, InvalidRequestError
from inference_server.core.servable import Abort, ServableId
from inference_server.core.size import shown_bytes
from inference_server.core.tensor import NUMPY_DTYPES, Array, TensorSpec
from inference_server.serving.loader import LoadError, NoRoomError
from inference_server.serving.signature import shown

TEXTS: Final = NUMPY_DTYPES["BYTES"]


@dataclass(frozen=True, slots=True)
class OnnxLoaderOptions:
    """How long to warm up, and how much to hold.

    `warm_up_runs` runs of one row, fewer when they take `warm_up_s` together. `max_memory_bytes` bounds what
    all sessions take: equal bytes count once, versions that are being replaced count too; None: no bound.
    """

    warm_up_runs: int = 20
    warm_up_s: float = 0.5
    max_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """What servables of equal bytes share."""

    session: OnnxSession
    contract: Contract | None
    warm_up_ns: int


class OnnxServable:
    """Implements `core.servable.Servable` on a session that others may share."""

    def __init__(self, id_: ServableId, digest: str, loaded: _Loaded, loader: "OnnxLoader") -> None:
        self.id: Final = id_
        self.digest: Final = digest
        self.contract: Final = loaded.contract
        self.inputs: Final[tuple[TensorSpec, ...]] = loaded.session.inputs
        self.outputs: Final[tuple[TensorSpec, ...]] = loaded.session.outputs
        self.warm_up_ns: Final = loaded.warm_up_ns
        self._session: OnnxSession | None = loaded.session
        self._bound = loaded.session.bound
        self._loader = loader
        self._texts_in = tuple(spec.name for spec in self.inputs if spec.datatype == "BYTES")
        self._texts_out = any(spec.datatype == "BYTES" for spec in self.outputs)

    def __repr__(self) -> str:
        return f"<OnnxServable {self.id} {self.digest[:12]} {'open' if self._session else 'closed'}>"

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], abort: Abort | None = None
    ) -> list[Array]:
        """Answer one array for each output named. See `core.servable.Servable.run`."""
        if self._session is None:
            raise RuntimeError(f"{self.id} is run after it was closed")
        if self._texts_in:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._texts_in}}
        arrays = self._session.run(inputs, outputs, abort)
        if not self._texts_out:
            return arrays
        return [_encoded(array) if array.dtype == TEXTS else array for array in arrays]

    def run_row(self, row: bytes) -> Sequence[bytes] | None:
        """Answer one row by its bytes. See `core.servable.Servable.run_row`."""
        return None if self._bound is None else self._bound.run_bytes(row)

    def close(self) -> None:
        """Give the session back; the last one of its digest frees it."""
        if self._session is not None:
            self._session = self._bound = None
            self._loader.give_back(self.digest)


@dataclass(slots=True, eq=False)
class _Entry:
    """One digest's session, from the start of its loading to its last user's close; under the loader's lock.

    `loading` gives every user the session, or the error that loading it ended with.
    """

    memory_bytes: int
    users: int = 0
    loading: Future[_Loaded] = field(default_factory=Future)


class OnnxLoader:
    """Implements `serving.loader.Loader`; counts who uses which session. Safe to use from any thread.

    The lock is never held while something is loaded, run or freed, so other digests are not waited for.
    """

    def __init__(self, options: OnnxLoaderOptions | None = None) -> None:
        self._options = options or OnnxLoaderOptions()
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # What is being loaded counts already, what is being freed still counts.
        self._taken_bytes = 0

    def __repr__(self) -> str:
        with self._lock:
            users = sum(entry.users for entry in self._entries.values())
            return f"<OnnxLoader {len(self._entries)} sessions for {users} servables>"

    @property
    def sessions(self) -> int:
        """Sessions in memory or on their way there."""
        return len(self._entries)

    @property
    def memory_bytes(self) -> int:
        """What all sessions take, by what vetting said of each."""
        return self._taken_bytes

    def load(self, id_: ServableId, digest: str, model: bytes, memory_bytes: int) -> OnnxServable:
        """Load and warm up, or take the session that holds these bytes already or is being made of them.

        `digest` is the SHA-256 of `model`; `memory_bytes` what its session takes, as vetting says, at least
        the file's size. Raises LoadError, of it NoRoomError where it would pass `max_memory_bytes`. Loads of
        the same bytes at once: the first does the work, the others wait for it and share its outcome.
        """
        with self._lock:
            entry = self._entries.get(digest)
            ours = entry is None
            if entry is None:
                entry = _Entry(max(memory_bytes, len(model)))
                self._reserve(entry.memory_bytes)
                self._entries[digest] = entry
            entry.users += 1
        try:
            if ours:
                try:
                    entry.loading.set_result(self._load(model))
                except BaseException as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
                    with self._lock:
                        del self._entries[digest]
                        self._taken_bytes -= entry.memory_bytes
                    entry.loading.set_exception(error)
            return OnnxServable(id_, digest, entry.loading.result(), self)
        finally:
            # An error's traceback holds this frame, and the entry the error: a circle that keeps the bytes.
            del entry

    def give_back(self, digest: str) -> None:
        """Count a user of these bytes out; called by the servable, once."""
        with self._lock:
            entry = self._entries[digest]
            entry.users -= 1
            if entry.users:
                return
            del self._entries[digest]
        memory_bytes = entry.memory_bytes
        del entry  # frees the session
        with self._lock:
            self._taken_bytes -= memory_bytes

    def _reserve(self, memory_bytes: int) -> None:
        """Take room, or raise NoRoomError; under the lock."""
        bound_bytes = self._options.max_memory_bytes
        if bound_bytes is not None and self._taken_bytes + memory_bytes > bound_bytes:
            raise NoRoomError(
                f"it needs {shown_bytes(memory_bytes)} of memory; of the {shown_bytes(bound_bytes)} that all "
                f"models may take, the {len(self._entries)} in memory take {shown_bytes(self._taken_bytes)}"
            )
        self._taken_bytes += memory_bytes

    def _load(self, model: bytes) -> _Loaded:
        session = OnnxSession(model)
        document = session.metadata.get(METADATA_KEY)
        try:
            contract = None if document is None else Contract.from_json(document)
        except ContractError as error:
            raise LoadError(f"contract: {error}") from None
        return _Loaded(session, contract, self._warm_up(session, contract))

    def _warm_up(self, session: OnnxSession, contract: Contract | None) -> int:
        """Run one row again and again; return the median time in nanoseconds."""
        inputs = sample_inputs(session.inputs)
        if contract is not None:
            inputs = {session.inputs[0].name: contract.golden.inputs[:1]}
        outputs = tuple(spec.name for spec in session.outputs)
        times_ns: list[int] = []
        end_ns = time.perf_counter_ns() + int(self._options.warm_up_s * 1e9)
        for _ in range(self._options.warm_up_runs):
            before_ns = time.perf_counter_ns()
            try:
                session.run(inputs, outputs)
            except Exception as error:  # noqa: BLE001 - the runtime raises kinds that share no base
                if lacks_memory(error):
                    raise NoRoomError("the system gives ONNX Runtime no memory to run it") from None
                raise LoadError(f"it does not run: {plain(error)}") from None
            now_ns = time.perf_counter_ns()
            times_ns.append(now_ns - before_ns)
            if now_ns >= end_ns:
                break
            if len(times_ns) == 1:
                session.bind_row(inputs)  # it runs: the runs after this one are as those of calls
        times_ns.sort()
        middle = len(times_ns) // 2
        return (times_ns[middle] + times_ns[~middle]) // 2


def _decoded(name: str, texts: Array) -> Array:
    """Return `str` elements. ONNX says that a text is UTF-8, and the runtime's binding takes no other."""
    decoded = np.empty(texts.size, TEXTS)
    for index, text in enumerate(texts.flat):
        try:
            decoded[index] = text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"input {shown(name)}: expected text in UTF-8, as ONNX has it, came element {index} with "
                f"{error.reason} at byte {error.start}"
            ) from None
    return decoded.reshape(texts.shape)


def _encoded(texts: Array) -> Array:
    encoded = np.empty(texts.size, TEXTS)
    encoded[:] = [str(text).encode() for text in texts.flat]
    return encoded.reshape(texts.shape)
