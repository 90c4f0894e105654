"""A real sidecar for callers that speak HTTP/2 by hand, and a look at what is in its hands."""

import asyncio
import gc
from typing import Any

import numpy as np
from sidecars import ThreadSidecar, eventually
from tickserve.v1 import predictor_pb2 as wire
from wire_caller import WireCaller

from inference_server.rpc.h2.server import H2Server

ROW = np.array([[1, 2, 3]], dtype="<f4")


def question(model: str = "one", rows: int = 1, value: float | None = None, **fields: Any) -> bytes:
    """A request for some rows of one model; each of `value` where that is given."""
    features = ROW if value is None else np.full((1, 3), value, dtype="<f4")
    part = wire.PredictPart(model=model, rows=rows, features=features.tobytes() * rows)
    return wire.PredictRequest(parts=[part], **fields).SerializeToString()


def scores(message: bytes) -> list[float]:
    """What a response says of its one part."""
    [part] = wire.PredictResponse.FromString(message).parts
    assert part.status.code == 0, part.status.message
    values: list[float] = np.frombuffer(part.outputs[0].raw, "<f4").tolist()
    return values


class Served:
    """A sidecar that serves by this transport, and a look at what is in its hands."""

    def __init__(self, sidecar: ThreadSidecar) -> None:
        self.sidecar = sidecar
        self.statistics = sidecar.sidecar.statistics
        port = int(sidecar.tcp.rpartition(":")[2])
        gc.collect()
        [self.server] = [
            each
            for each in gc.get_objects()
            if isinstance(each, H2Server)
            and any(bound.fileno() >= 0 and bound.getsockname()[1:2] == (port,) for bound in each._sockets)
        ]
        self.tasks = self._count_tasks()

    def caller(
        self, settings: dict[int, int] | None = None, target: str = "tcp", **options: Any
    ) -> WireCaller:
        """Connect."""
        return WireCaller(getattr(self.sidecar, target), settings, **options)

    @property
    def connections(self) -> list[Any]:
        """Those that are open, as the server knows them."""
        return list(self.server._shared.connections)

    @property
    def in_flight(self) -> int:
        """How many RPCs have begun and not ended."""
        return sum(self.statistics.rpcs_in_flight.values())

    def ended(self, method: str, code: str) -> int:
        """How many RPCs of a method of the Predictor have ended so."""
        durations = self.statistics.rpcs.get((f"/tickserve.v1.Predictor/{method}", code))
        return durations.count if durations else 0

    def check_answers(self) -> None:
        """Another caller is answered."""
        with self.caller(target="unix") as other:
            [message] = other.answer(other.call(question())).messages
            assert scores(message) == [6.0]

    def check_clean(self) -> None:
        """Nothing is left of any caller."""
        eventually(lambda: not self.connections, f"no connection is left of {self.connections}")
        eventually(lambda: self.in_flight == 0, f"no RPC is left of {self.statistics.rpcs_in_flight}")
        eventually(lambda: self._count_tasks() <= self.tasks, "no task is left")

    def _count_tasks(self) -> int:
        async def count() -> int:
            return len(asyncio.all_tasks())

        number: int = self.sidecar.run(count())
        return number
