"""`grpc.health.v1.Health`: Check and Watch, fed by the registry's readiness."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

from grpc_health.v1 import health_pb2

from inference_server.core.errors import NotFoundError
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry

SERVICE: Final[str] = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# Under this name the process itself is asked for, whatever its models: for probes that restart it.
LIVE: Final = "live"


class Health:
    """Ready is SERVING, until the server drains.

    The empty service is the whole server; every service of ours says the same. LIVE is SERVING as long as
    somebody is there to say so, drain included: a restart mends no model and would cut a drain off.
    """

    def __init__(self, registry: Registry, services: Collection[str], drain: Drain) -> None:
        self._registry = registry
        self._drain = drain
        self._services = frozenset(("", LIVE, *services))

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        return [
            Method(
                f"/{SERVICE}/Check",
                health_pb2.HealthCheckRequest,
                health_pb2.HealthCheckResponse,
                Group.OPEN,
                unary=self.check,
            ),
            Method(
                f"/{SERVICE}/Watch",
                health_pb2.HealthCheckRequest,
                health_pb2.HealthCheckResponse,
                Group.OPEN,
                server_stream=self.watch,
            ),
        ]

    async def check(
        self, request: health_pb2.HealthCheckRequest, call: CallContext
    ) -> health_pb2.HealthCheckResponse:
        """Return the status now; NOT_FOUND for a service that this server has not."""
        del call
        if request.service not in self._services:
            raise NotFoundError("unknown service")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def watch(
        self, request: health_pb2.HealthCheckRequest, call: CallContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the status now and at each change; SERVICE_UNKNOWN for one that this server has not.

        Ends when the server drains, after NOT_SERVING where that is its status.
        """
        del call
        sent = None
        draining = asyncio.create_task(self._drain.wait())
        try:
            while True:
                seen = self._registry.revision
                last = self._drain.begun  # which may begin while a status is sent: then there is one more
                status = self._status(request.service)
                if status != sent:
                    sent = status
                    yield health_pb2.HealthCheckResponse(status=status)
                if last:
                    return
                changing = asyncio.create_task(self._registry.wait_changed(seen))
                try:
                    await asyncio.wait((changing, draining), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changing.cancel()
        finally:
            draining.cancel()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        serving = service == LIVE or (self._registry.ready() and not self._drain.begun)
        return (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
