"""A method table for fuzzing: of each kind some, which answer at once, when they are let, or badly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fuzz.virtual_loop import VirtualLoop
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.errors import OverloadedError
from inference_server.rpc.guard import Guard, GuardOptions
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.serving.statistics import Statistics

MAX_MESSAGE = 3_000
STREAMS = 6
MANY = 40
MANY_WAIT = 3
UNARY = (b"Quick", b"Wait", b"Fail", b"Large")
SERVER_STREAM = (b"Many", b"ManyWait", b"ManyFail")
EACH = (b"Each", b"EachWait", b"EachThree")
PATHS = tuple(b"/f.F/" + name for name in (*UNARY, *SERVER_STREAM, *EACH))


class Served:
    """A method table whose functions answer by the request's id, at once or when they are let."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.statistics = Statistics()
        self.begun = 0
        self.waiting: list[asyncio.Future[None]] = []
        self._loop = loop
        guard = Guard(loop, self.statistics, options=GuardOptions(max_streams=STREAMS))
        self._guard = guard
        self.methods = [guard.guard(method) for method in self._methods()]

    @property
    def in_flight(self) -> int:
        return sum(self.statistics.rpcs_in_flight.values()) + self._guard._streams

    def _methods(self) -> Iterator[Method]:
        unary = {b"Quick": self._quick, b"Wait": self._wait, b"Fail": self._fail, b"Large": self._large}
        for name, function in unary.items():
            yield self._method(name, unary=function)
        many = {b"Many": self._many, b"ManyWait": self._many_wait, b"ManyFail": self._many_fail}
        for name, stream in many.items():
            yield self._method(name, server_stream=stream)
        yield self._method(b"Each", each=self._each(self._quick))
        yield self._method(b"EachWait", each=self._each(self._wait))
        yield self._method(b"EachThree", each=self._each(self._wait), at_once=3)

    @staticmethod
    def _method(name: bytes, **functions: Any) -> Method:
        path = f"/f.F/{name.decode()}"
        return Method(path, wire.PredictRequest, wire.PredictResponse, Group.PREDICT, **functions)

    async def _quick(self, request: Any, _: CallContext | None = None) -> Any:
        return wire.PredictResponse(id=request.id)

    async def _large(self, request: Any, _: CallContext) -> Any:
        return wire.PredictResponse(id=request.id, error=wire.PartStatus(message="x" * (MAX_MESSAGE - 100)))

    async def _fail(self, request: Any, _: CallContext) -> Any:
        raise OverloadedError(f"no room for {request.id}")

    async def _wait(self, request: Any, _: CallContext | None = None) -> Any:
        await self._let()
        return wire.PredictResponse(id=request.id)

    async def _many(self, request: Any, call: CallContext) -> AsyncIterator[Any]:
        for _ in range(MANY):
            yield await self._large(request, call)

    async def _many_wait(self, request: Any, _: CallContext) -> AsyncIterator[Any]:
        for _ in range(MANY_WAIT):
            await self._let()
            yield wire.PredictResponse(id=request.id)

    async def _many_fail(self, request: Any, _: CallContext) -> AsyncIterator[Any]:
        yield wire.PredictResponse(id=request.id)
        raise OverloadedError("no more")

    def _each(self, answer: Any) -> Any:
        @contextlib.contextmanager
        def opened(_: CallContext) -> Iterator[Any]:
            yield answer

        return opened

    async def _let(self) -> None:
        let = self._loop.create_future()
        self.waiting.append(let)
        await let
