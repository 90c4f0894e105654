"""`tritonclient.grpc.aio` against a real sidecar, on the Unix socket and on TCP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
import tritonclient.utils.shared_memory as shm
from onnx_files import endless_model, score_model
from shared_objects import FOLDER, new_key
from sidecars import ThreadSidecar, put, thread_sidecar
from tritonclient.utils import InferenceServerException

from inference_server.adapters.shared_memory import SharedMemoryOptions

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
SUMS = [[6], [15]]

Use = Callable[[triton.InferenceServerClient], Awaitable[None]]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a quick model and one that does not end."""
    models = tmp_path_factory.mktemp("models")
    put(models / "plain.onnx", score_model(None))
    put(models / "turns.onnx", endless_model(turns=None))
    with thread_sidecar(models, shared_memory=SharedMemoryOptions()) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def with_client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Callable[[Use], None]:
    """Runs a coroutine function with a client on each address."""

    async def main(use: Use) -> None:
        async with asyncio.timeout(60), triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
            await use(made)

    return lambda use: asyncio.run(main(use))


def features(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    """The input tensor of these rows."""
    return [triton.InferInput("features", list(rows.shape), "FP32").set_data_from_numpy(rows)]


def test_everything_that_is_told(with_client: Callable[[Use], None]) -> None:
    """Health, readiness, metadata, configuration, index and statistics."""

    async def use(client: triton.InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("plain")
        assert not await client.is_model_ready("nobody")
        assert "statistics" in (await client.get_server_metadata()).extensions
        assert (await client.get_model_metadata("plain")).platform == "onnxruntime_onnx"
        assert (await client.get_model_config("plain")).config.backend == "onnxruntime"
        index = (await client.get_model_repository_index()).models
        assert [(each.name, each.state) for each in index] == [("plain", "READY"), ("turns", "READY")]
        [before] = (await client.get_inference_statistics("plain")).model_stats
        await client.infer("plain", features())
        [after] = (await client.get_inference_statistics("plain")).model_stats
        assert after.inference_stats.success.count == before.inference_stats.success.count + 1

    with_client(use)


def test_calls_side_by_side(with_client: Callable[[Use], None]) -> None:
    """Many calls at once are each answered with their own numbers and id."""

    async def use(client: triton.InferenceServerClient) -> None:
        asked = [client.infer("plain", features(ROWS + n), request_id=str(n)) for n in range(50)]
        for number, result in enumerate(await asyncio.gather(*asked)):
            assert result.get_response().id == str(number)
            np.testing.assert_array_equal(result.as_numpy("score"), np.add(SUMS, 3 * number))

    with_client(use)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ({"model_name": "nobody"}, "NOT_FOUND"),
        ({"model_version": "9"}, "NOT_FOUND"),
        ({"inputs": features(ROWS[:, :2])}, "INVALID_ARGUMENT"),
        ({"outputs": [triton.InferRequestedOutput("nope")]}, "INVALID_ARGUMENT"),
        (
            {"model_name": "turns", "inputs": features(ROWS * 2**20), "client_timeout": 0.2},
            "DEADLINE_EXCEEDED",
        ),
    ],
)
def test_an_error_has_its_status(
    with_client: Callable[[Use], None], call: dict[str, Any], status: str
) -> None:
    """What is refused raises the client's own exception with the status of the table."""

    async def use(client: triton.InferenceServerClient) -> None:
        with pytest.raises(InferenceServerException) as caught:
            await client.infer(**({"model_name": "plain", "inputs": features()} | call))
        assert caught.value.status() == f"StatusCode.{status}"

    with_client(use)


def test_a_stream_answers_in_order_and_survives_an_error(with_client: Callable[[Use], None]) -> None:
    """Each request has one answer, in order; what is refused is in-band, and those after it are answered."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, model in enumerate(("plain", "nobody", "plain")):
            yield {
                "model_name": model,
                "inputs": features(ROWS + number),
                "request_id": str(number),
                "enable_empty_final_response": True,
            }

    async def use(client: triton.InferenceServerClient) -> None:
        answers = [answer async for answer in client.stream_infer(requests())]
        assert len(answers) == 3
        for number in (0, 2):
            result, error = answers[number]
            assert error is None
            assert result.get_response().id == str(number)
            assert result.get_response().parameters["triton_final_response"].bool_param
            np.testing.assert_array_equal(result.as_numpy("score"), np.add(SUMS, 3 * number))
        assert "no model 'nobody'" in str(answers[1][1])

    with_client(use)


def test_a_stream_that_is_cancelled_ends(with_client: Callable[[Use], None]) -> None:
    """A client that cancels its stream during a run is not kept waiting, and is answered again (E4)."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "turns", "inputs": features(ROWS * 2**20)}

    async def use(client: triton.InferenceServerClient) -> None:
        stream = client.stream_infer(requests())
        reading = asyncio.ensure_future(anext(stream))
        await client.is_server_live()  # a round trip: the stream has begun
        assert stream.cancel()
        with pytest.raises((asyncio.CancelledError, InferenceServerException)):
            await reading
        assert (await client.infer("plain", features())).as_numpy("score").tolist() == SUMS

    with_client(use)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")
def test_tensors_in_shared_memory(with_client: Callable[[Use], None]) -> None:
    """Regions are registered, used, told of and taken back."""
    handle = shm.create_shared_memory_region("region", new_key(), 64, create_only=True)

    async def use(client: triton.InferenceServerClient) -> None:
        await client.register_system_shared_memory("region", handle._shm_key, 64)
        shm.set_shared_memory_region(handle, [ROWS])
        tensor = triton.InferInput("features", [2, 3], "FP32").set_shared_memory("region", ROWS.nbytes)
        output = triton.InferRequestedOutput("score")
        output.set_shared_memory("region", 8, 32)
        await client.infer("plain", [tensor], outputs=[output])
        np.testing.assert_array_equal(shm.get_contents_as_numpy(handle, np.float32, [2, 1], 32), SUMS)
        assert set((await client.get_system_shared_memory_status()).regions) == {"region"}
        await client.unregister_system_shared_memory("region")
        assert not (await client.get_system_shared_memory_status()).regions

    try:
        with_client(use)
    finally:
        shm.destroy_shared_memory_region(handle)
