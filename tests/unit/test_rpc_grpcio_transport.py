"""The binding to grpcio: what it keeps out of the log."""

import asyncio
import logging

import grpc
import pytest

from inference_server.core.clock import SystemClock
from inference_server.rpc.grpcio_transport import bind
from inference_server.rpc.method import MethodTable
from inference_server.serving.drain import Drain


def test_a_caller_who_left_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What grpcio logs when it meets a caller who has left is kept out; all else that it logs stays (E4)."""

    async def main() -> None:
        bind(grpc.aio.server(), MethodTable([], SystemClock(), Drain()))

    asyncio.run(main())
    logger = logging.getLogger("grpc._cython.cygrpc")
    logger.error("ExecuteBatchError raised in core by servicer method [%s]", "/s/M")
    logger.error("Unexpected [%s] raised by servicer method [%s]", "ValueError", "/s/M")
    assert [record.getMessage() for record in caplog.records] == [
        "Unexpected [ValueError] raised by servicer method [/s/M]"
    ]
