"""One sidecar and a client that asks it about its models, in the words of the tests of files."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from sidecars import PATIENCE_S, ThreadSidecar, describe, eventually, stub
from tickserve.v1 import predictor_pb2 as wire

ROW = np.array([[-1.0, 0.5, 4.0]], dtype="<f4")
ROW_SUM = 3.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one row, and by which bytes."""

    digest: str
    version: int
    score: float


@dataclass(slots=True)
class Asking:
    """A client of a sidecar; every answer that it ever got must have been one."""

    channel: grpc.Channel
    predict: Callable[..., wire.PredictResponse] = field(init=False)

    def __post_init__(self) -> None:
        self.predict = stub(self.channel, "Predict", wire.PredictResponse)

    def ask(self, name: str) -> Answer:
        """Ask one model for one row; AssertionError where it does not answer."""
        return self.ask_all([name])[0]

    def ask_all(self, names: list[str]) -> list[Answer]:
        """Ask many models for one row each, in one call; each has to answer."""
        parts = [wire.PredictPart(model=name, rows=1, features=ROW.tobytes()) for name in names]
        results = self.predict(wire.PredictRequest(parts=parts), timeout=PATIENCE_S).parts
        for name, result in zip(names, results, strict=True):
            assert result.status.code == 0, f"{name}: {result.status.message}"
        return [
            Answer(result.digest, result.version, float(_first(result.outputs[-1]))) for result in results
        ]

    def problem(self, name: str) -> str:
        """Say why what lies there for a model is not what is served."""
        return self.problems()[name]

    def problems(self) -> dict[str, str]:
        """Say it of every model."""
        return {model.name: model.problem for model in describe(self.channel).models}

    def eventually_problem(self, name: str, text: str) -> str:
        """Wait until the problem of a model holds this text; return it. It answers all the time."""
        before = self.ask(name)

        def told() -> str:
            assert self.ask(name) == before
            problem = self.problem(name)
            return problem if text in problem else ""

        return eventually(told, f"{name} has the problem {text!r}, it has {self.problem(name)!r}")

    def eventually_score(self, name: str, score: float) -> None:
        """Wait until a model answers this; until then it goes on giving the answer it gave, and none else."""
        before = self.ask(name).score

        def answered() -> bool:
            came = self.ask(name).score
            assert came in {before, score}, f"{name} answers {came}"
            return came == score

        eventually(answered, f"{name} answers {score}; its problem: {self.problem(name)!r}")


@contextlib.contextmanager
def asking(target: str | ThreadSidecar) -> Iterator[Asking]:
    """Be a client of this sidecar."""
    address = target.unix if isinstance(target, ThreadSidecar) else target
    with grpc.insecure_channel(address) as channel:
        yield Asking(channel)


def _first(tensor: wire.Tensor) -> Any:
    dtype = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}[tensor.datatype]
    return np.frombuffer(tensor.raw, dtype)[0]
