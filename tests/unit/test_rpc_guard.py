"""The guard: what a function raises becomes a status, and a bug's text never leaves."""

import asyncio
import logging

import pytest

from inference_server.core import errors
from inference_server.core.clock import SystemClock
from inference_server.rpc.guard import Guard
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.open_inference import oip
from inference_server.rpc.status import CODES, Code, StatusError
from inference_server.serving.statistics import Statistics


def guarded(function, statistics: Statistics | None = None) -> Method:
    """Return a unary method with its function guarded."""
    return Guard(SystemClock(), statistics or Statistics()).guard(
        Method("/s/M", oip.ServerLiveRequest, oip.ServerLiveResponse, Group.OPEN, unary=function)
    )


def call(function, deadline_ns: int | None = None, statistics: Statistics | None = None) -> StatusError:
    """Run a guarded unary function that fails and return its status."""
    method = guarded(function, statistics)
    with pytest.raises(StatusError) as caught:
        asyncio.run(method.unary(oip.ServerLiveRequest(), CallContext(deadline_ns, "ab-1")))
    return caught.value


def raising(error: Exception):
    """Return a function that raises."""

    async def function(request, call):
        raise error

    return function


def test_every_serving_error_has_a_status() -> None:
    """The table has a row for each error that may travel."""
    assert set(CODES) == set(errors.ServingError.__subclasses__())


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_a_serving_error_travels_with_its_text(kind: type[errors.ServingError], code: Code) -> None:
    """A typed error becomes its code, with its own text."""
    status = call(raising(kind("expected 3, came 4")))
    assert (status.code, status.text) == (code, "expected 3, came 4")


def test_a_bug_gives_a_fixed_text_and_the_log_gets_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error leaks no text; its request id finds the traceback in the log (F10)."""
    with caplog.at_level(logging.ERROR):
        status = call(raising(RuntimeError("/secret/path token=abc")))
    assert (status.code, status.text) == (Code.INTERNAL, "internal error, request id ab-1")
    assert "ab-1" in caplog.text
    assert "RuntimeError: /secret/path token=abc" in caplog.text


def test_nothing_starts_after_the_deadline() -> None:
    """A call that arrives expired is refused and its function never runs (E1, E3)."""
    started = []

    async def function(request, call):
        started.append(request)

    status = call(function, deadline_ns=SystemClock().monotonic_ns() - 1)
    assert status.code is Code.DEADLINE_EXCEEDED
    assert started == []


def test_cancellation_passes_through() -> None:
    """A cancelled call stays cancelled: it is no error of ours."""

    async def main() -> None:
        async def function(request, call):
            await asyncio.Event().wait()

        method = guarded(function, statistics)
        task = asyncio.create_task(method.unary(oip.ServerLiveRequest(), CallContext(None, "ab-1")))
        await asyncio.sleep(0)
        assert statistics.rpcs_in_flight == {"/s/M": 1}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    statistics = Statistics()
    asyncio.run(main())
    assert set(statistics.rpcs) == {("/s/M", "CANCELLED")}


def test_every_rpc_is_counted_by_how_it_ended() -> None:
    """What ends well, badly and late is counted under its status, and nothing stays in flight (F6)."""

    async def well(request, call):
        return oip.ServerLiveResponse(live=True)

    statistics = Statistics()
    asyncio.run(guarded(well, statistics).unary(oip.ServerLiveRequest(), CallContext(None, "ab-1")))
    call(raising(errors.OverloadedError("full")), statistics=statistics)
    call(raising(RuntimeError("a bug")), statistics=statistics)
    call(well, deadline_ns=0, statistics=statistics)
    assert {key: durations.count for key, durations in statistics.rpcs.items()} == {
        ("/s/M", "OK"): 1,
        ("/s/M", "RESOURCE_EXHAUSTED"): 1,
        ("/s/M", "INTERNAL"): 1,
        ("/s/M", "DEADLINE_EXCEEDED"): 1,
    }
    assert statistics.rpcs_in_flight == {"/s/M": 0}


def test_a_stream_is_in_flight_until_it_ends() -> None:
    """A stream that its consumer leaves is counted as cancelled, and nothing stays in flight (F6)."""

    async def main() -> None:
        async def endless(request, call):
            while True:
                yield oip.ServerLiveResponse(live=True)

        method = Guard(SystemClock(), statistics).guard(
            Method("/s/S", oip.ServerLiveRequest, oip.ServerLiveResponse, Group.OPEN, server_stream=endless)
        )
        responses = method.server_stream(oip.ServerLiveRequest(), CallContext(None, "ab-1"))
        await anext(responses)
        assert statistics.rpcs_in_flight == {"/s/S": 1}
        await responses.aclose()

    statistics = Statistics()
    asyncio.run(main())
    assert set(statistics.rpcs) == {("/s/S", "CANCELLED")}
    assert statistics.rpcs_in_flight == {"/s/S": 0}
