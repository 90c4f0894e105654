"""Loads vetted bytes into servables. Equal bytes are one session, whatever the names and versions."""

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference_server.adapters.onnx_session import OnnxSession, plain, sample_inputs
from inference_server.core.contract import METADATA_KEY, Contract
from inference_server.core.errors import ContractError, InvalidRequestError
from inference_server.core.servable import ServableId
from inference_server.core.tensor import NUMPY_DTYPES, Array, TensorSpec
from inference_server.serving.loader import LoadError

TEXTS: Final = NUMPY_DTYPES["BYTES"]


@dataclass(frozen=True, slots=True)
class OnnxLoaderOptions:
    """How long to warm up: `warm_up_runs` runs of one row, fewer when they take `warm_up_s` together."""

    warm_up_runs: int = 20
    warm_up_s: float = 0.5


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
        self._loader = loader
        self._texts_in = tuple(spec.name for spec in self.inputs if spec.datatype == "BYTES")

    def __repr__(self) -> str:
        return f"<OnnxServable {self.id} {self.digest[:12]} {'open' if self._session else 'closed'}>"

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Answer one array for each output named. See `core.servable.Servable.run`."""
        if self._session is None:
            raise RuntimeError(f"{self.id} is run after it was closed")
        if self._texts_in:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._texts_in}}
        return [
            _encoded(array) if array.dtype == TEXTS else array for array in self._session.run(inputs, outputs)
        ]

    def close(self) -> None:
        """Give the session back; the last one of its digest frees it."""
        if self._session is not None:
            self._session = None
            self._loader.give_back(self.digest)


class OnnxLoader:
    """Implements `serving.loader.Loader`; counts who uses which session. Safe to use from any thread."""

    def __init__(self, options: OnnxLoaderOptions | None = None) -> None:
        self._options = options or OnnxLoaderOptions()
        self._lock = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}
        self._users: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<OnnxLoader {len(self._loaded)} sessions for {sum(self._users.values())} servables>"

    @property
    def sessions(self) -> int:
        """Sessions in memory."""
        return len(self._loaded)

    def load(self, id_: ServableId, digest: str, model: bytes, memory_bytes: int) -> OnnxServable:
        """Load and warm up, or take the session that holds these bytes already.

        `digest` is the SHA-256 of `model`. Raises LoadError. One load at a time: a second one of the same
        bytes finds the first one's session.
        """
        del memory_bytes
        with self._lock:
            loaded = self._loaded.get(digest)
            if loaded is None:
                loaded = self._loaded[digest] = self._load(model)
            self._users[digest] = self._users.get(digest, 0) + 1
        return OnnxServable(id_, digest, loaded, self)

    def give_back(self, digest: str) -> None:
        """Count a user of these bytes out; called by the servable, once."""
        with self._lock:
            self._users[digest] -= 1
            if self._users[digest] == 0:
                del self._users[digest], self._loaded[digest]

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
        outputs = [spec.name for spec in session.outputs]
        times_ns: list[int] = []
        end_ns = time.perf_counter_ns() + int(self._options.warm_up_s * 1e9)
        for _ in range(self._options.warm_up_runs):
            before_ns = time.perf_counter_ns()
            try:
                session.run(inputs, outputs)
            except Exception as error:  # noqa: BLE001 - the runtime raises kinds that share no base
                raise LoadError(f"it does not run: {plain(error)}") from None
            now_ns = time.perf_counter_ns()
            times_ns.append(now_ns - before_ns)
            if now_ns >= end_ns:
                break
        return int(statistics.median(times_ns))


def _decoded(name: str, texts: Array) -> Array:
    try:
        decoded = [text.decode() if isinstance(text, bytes) else text for text in texts.flat]
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"input {name!r}: expected UTF-8 text: {error.reason}") from None
    return np.array(decoded, dtype=TEXTS).reshape(texts.shape)


def _encoded(texts: Array) -> Array:
    return np.array([str(text).encode() for text in texts.flat], dtype=TEXTS).reshape(texts.shape)
