"""KServe's Python server with an ONNX file, on loopback, with one method more on its gRPC server.

python kserve_start.py FILE MODEL --grpc_port N --http_port N
"""

import sys
from types import SimpleNamespace
from typing import Any

import onnxruntime
from grpc import aio
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.grpc import server as grpc_server
from kserve.protocol.rest import server as rest_server
from model_config import model_config_handler

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


class OnnxModel(Model):  # type: ignore[misc] # its types are only in its environment
    """An ONNX file, on one thread as with us."""

    def __init__(self, file: str, name: str) -> None:
        super().__init__(name)
        self._file = file

    def load(self) -> bool:
        """Open the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._file, options, providers=["CPUExecutionProvider"])
        self._outputs = [(output.name, DATATYPES[output.type]) for output in self._session.get_outputs()]
        self.ready = True
        return True

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Describe the inputs, for ModelMetadata."""
        return [_described(node) for node in self._session.get_inputs()]

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Describe the outputs."""
        return [_described(node) for node in self._session.get_outputs()]

    def predict(self, payload: InferRequest, _headers: dict[str, str] | None = None) -> InferResponse:
        """Answer one request."""
        feed = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        answers = self._session.run([name for name, _ in self._outputs], feed)
        outputs = []
        for (name, datatype), answer in zip(self._outputs, answers, strict=True):
            output = InferOutput(name, list(answer.shape), datatype)
            output.set_data_from_numpy(answer)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs)


def _described(node: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in node.shape]
    return {"name": node.name, "datatype": DATATYPES[node.type], "shape": shape}


def loopback_server(*arguments: Any, **options: Any) -> Any:
    """Create KServe's server with ModelConfig, and on 127.0.0.1: it has no option for where it listens."""
    server: Any = aio.server(*arguments, **options)
    server.add_generic_rpc_handlers((model_config_handler(sys.argv[2]),))
    return SimpleNamespace(
        add_generic_rpc_handlers=server.add_generic_rpc_handlers,
        add_registered_method_handlers=server.add_registered_method_handlers,
        add_insecure_port=lambda address: server.add_insecure_port(address.replace("[::]", "127.0.0.1")),
        start=server.start,
        stop=server.stop,
        wait_for_termination=server.wait_for_termination,
    )


class LoopbackConfig(rest_server.uvicorn.Config):  # type: ignore[misc] # as above
    """Uvicorn's configuration with 127.0.0.1 for a host."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"host": "127.0.0.1"})


if __name__ == "__main__":
    grpc_server.aio = SimpleNamespace(server=loopback_server)
    rest_server.uvicorn = SimpleNamespace(Config=LoopbackConfig)
    served = OnnxModel(sys.argv[1], sys.argv[2])
    served.load()
    ModelServer().start([served])
