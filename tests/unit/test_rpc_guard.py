"""The guard: what a function raises becomes a status, and a bug's text never leaves."""

import asyncio
import logging

import pytest

from inference_server.core import errors
from inference_server.core.clock import SystemClock
from inference_server.rpc.guard import guard
from inference_server.rpc.method import CallContext, Method
from inference_server.rpc.open_inference import oip
from inference_server.rpc.status import CODES, Code, StatusError


def call(function, deadline_ns: int | None = None) -> StatusError:
    """Run a guarded unary function that fails and return its status."""
    method = guard(
        Method("/s/M", oip.ServerLiveRequest, oip.ServerLiveResponse, unary=function), SystemClock()
    )
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

        method = guard(
            Method("/s/M", oip.ServerLiveRequest, oip.ServerLiveResponse, unary=function), SystemClock()
        )
        task = asyncio.create_task(method.unary(oip.ServerLiveRequest(), CallContext(None, "ab-1")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
