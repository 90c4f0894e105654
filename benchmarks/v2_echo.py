"""The floor of the Open Inference Protocol: a bare grpc.aio server with the same messages, and no model.

python v2_echo.py HOST:PORT LIKE MODEL

It asks the server at LIKE once what it answers, and from then on answers the same: each request is parsed
and its answer written, and nothing else is done.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from open_inference.v2 import inference_pb2 as oip

SERVICE: Final = "inference.GRPCInferenceService"
TIMEOUT_S: Final = 10.0


async def serve(address: str, like: str, model: str) -> None:
    """Run the server until the process ends."""
    canned, prediction = await _answers_of(like, model)

    async def infer(request: Any, _: Any) -> Any:
        answer = oip.ModelInferResponse()
        answer.CopyFrom(prediction)
        answer.id = request.id
        return answer

    handlers = {name: _handler(name, _always(answer)) for name, answer in canned.items()}
    handlers["ModelInfer"] = _handler("ModelInfer", infer)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


async def _answers_of(address: str, model: str) -> tuple[dict[str, Any], Any]:
    """Return what the server answers to what clients ask before they start, and to one row of zeros."""
    async with grpc.aio.insecure_channel(address) as channel:

        async def ask(name: str, request: Any) -> Any:
            call: Any = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=getattr(oip, f"{name}Response").FromString,
            )
            return await call(request, timeout=TIMEOUT_S, wait_for_ready=True)

        canned = {
            "ServerLive": await ask("ServerLive", oip.ServerLiveRequest()),
            "ServerReady": await ask("ServerReady", oip.ServerReadyRequest()),
            "ServerMetadata": await ask("ServerMetadata", oip.ServerMetadataRequest()),
            "ModelReady": await ask("ModelReady", oip.ModelReadyRequest(name=model)),
            "ModelMetadata": await ask("ModelMetadata", oip.ModelMetadataRequest(name=model)),
            "ModelConfig": await ask("ModelConfig", oip.ModelConfigRequest(name=model)),
        }
        canned["ServerMetadata"].ClearField("extensions")  # it keeps no statistics
        (wanted,) = canned["ModelMetadata"].inputs
        width = wanted.shape[1]
        row = oip.ModelInferRequest(model_name=model)
        row.inputs.add(name=wanted.name, datatype=wanted.datatype, shape=[1, width])
        row.raw_input_contents.append(bytes(4 * width))
        return canned, await ask("ModelInfer", row)


def _handler(name: str, method: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=getattr(oip, f"{name}Request").FromString,
        response_serializer=getattr(oip, f"{name}Response").SerializeToString,
    )


def _always(answer: Any) -> Callable[[Any, Any], Awaitable[Any]]:
    async def method(_request: Any, _: Any) -> Any:
        return answer

    return method


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
