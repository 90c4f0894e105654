"""A canned answer to Triton's ModelConfig: `perf_analyzer` asks for it before it starts; no peer has it."""

from typing import Any

import grpc


def model_config_handler(model: str) -> Any:
    """Answer ModelConfigResponse(config=ModelConfig(name=model)): it names no batching and no scheduler."""
    answer = _first_field(_first_field(model.encode()))

    async def model_config(_request: bytes, _context: Any) -> bytes:
        return answer

    method = grpc.unary_unary_rpc_method_handler(model_config)
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelConfig": method})


def _first_field(content: bytes) -> bytes:
    """Return a message whose field 1 is these bytes; their length fits one byte."""
    assert len(content) < 128
    return b"\x0a" + bytes([len(content)]) + content
