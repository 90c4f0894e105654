"""The HTTP probes of the Open Inference Protocol: live, ready, and ready by model."""

from aiohttp import web

from inference_server.http.listener import Routes
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry


def probes(registry: Registry, drain: Drain) -> Routes:
    """Return the routes. 200 says yes, 503 says not now; HTTP knows nothing else here."""

    async def live(_: web.Request) -> web.Response:
        return _answer(yes=True)

    async def ready(_: web.Request) -> web.Response:
        return _answer(yes=registry.ready() and not drain.begun)

    async def model_ready(request: web.Request) -> web.Response:
        return _answer(yes=registry.model_ready(request.match_info["model"], 0))

    return [
        web.get("/v2/health/live", live),
        web.get("/v2/health/ready", ready),
        web.get("/v2/models/{model}/ready", model_ready),
    ]


def _answer(*, yes: bool) -> web.Response:
    return web.Response(status=200 if yes else 503, text="yes\n" if yes else "no\n")
