"""The ways in which `tritonclient` asks: at once, later, on a stream, compressed, with a deadline."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_files import endless_model, score_model
from plain_models import mixed_model
from sidecars import ThreadSidecar, eventually, put, thread_sidecar
from tritonclient.utils import InferenceServerException

ROWS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
SUMS = [[6], [15]]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a quick model, one of many tensors, and one that does not end."""
    models = tmp_path_factory.mktemp("models")
    put(models / "plain.onnx", score_model(None))
    put(models / "mixed.onnx", mixed_model())
    put(models / "turns.onnx", endless_model(turns=None))
    with thread_sidecar(models) as running:
        yield running


@pytest.fixture(params=["unix", "tcp"])
def client(sidecar: ThreadSidecar, request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    """A client on each address."""
    with triton.InferenceServerClient(getattr(sidecar, request.param)) as made:
        yield made


def features(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    """The input tensor of these rows."""
    return [triton.InferInput("features", list(rows.shape), "FP32").set_data_from_numpy(rows)]


def turns(count: int) -> list[triton.InferInput]:
    """An input that keeps its model busy for so many turns."""
    return features(np.array([[count, 1, 1]], dtype=np.float32))


class Answers:
    """What a callback was given, in its order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self._queue.put((result, error))

    def take(self) -> tuple[Any, Any]:
        """The next result and error."""
        return self._queue.get(timeout=60)


def test_many_calls_at_once_each_get_their_own_answer(client: triton.InferenceServerClient) -> None:
    """Calls that are sent without waiting are all answered, each with its own id and numbers."""
    answers = Answers()
    for number in range(50):
        client.async_infer("plain", features(ROWS + number), answers, request_id=str(number))
    seen = {}
    for _ in range(50):
        result, error = answers.take()
        assert error is None
        seen[int(result.get_response().id)] = result.as_numpy("score")
    assert sorted(seen) == list(range(50))
    for number, scores in seen.items():
        np.testing.assert_array_equal(scores, np.add(SUMS, 3 * number))


def test_a_call_in_the_background_gets_its_error(client: triton.InferenceServerClient) -> None:
    """The callback of a call that is refused gets the status, and no result."""
    answers = Answers()
    client.async_infer("nobody", features(), answers)
    result, error = answers.take()
    assert result is None
    assert error.status() == "StatusCode.NOT_FOUND"


def test_a_call_that_is_cancelled_gives_its_place_back(
    client: triton.InferenceServerClient, sidecar: ThreadSidecar
) -> None:
    """A client that cancels is told so at once, and the next call of the model is answered (E4, E5)."""
    answers = Answers()
    context = client.async_infer("turns", turns(2**23), answers)
    eventually(lambda: in_flight(sidecar) == 1, "the call runs")
    context.cancel()
    assert answers.take()[1].status() == "StatusCode.CANCELLED"
    assert client.infer("turns", turns(1)).as_numpy("score").shape == (1, 3)


def in_flight(sidecar: ThreadSidecar) -> int:
    """Calls of the slow model that are in flight."""
    [model] = sidecar.sidecar.registry.describe(["turns"])
    return model.versions[0].in_flight


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.infer("turns", turns(2**23), client_timeout=0.2),
        lambda client: client.infer("turns", turns(2**23), timeout=200_000),
    ],
    ids=["client_timeout", "timeout"],
)
def test_a_deadline_is_kept(client: triton.InferenceServerClient, ask: Callable) -> None:
    """The deadline of the transport, in seconds, and the parameter, in microseconds, both end a call (E1)."""
    with pytest.raises(InferenceServerException) as caught:
        ask(client)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    """A client may compress what it sends."""
    rows = np.ones((1000, 3), dtype=np.float32)
    result = client.infer("plain", features(rows), compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("score"), np.full((1000, 1), 3))


def test_every_answer_on_a_stream_is_the_last_of_its_request(client: triton.InferenceServerClient) -> None:
    """Each request has one answer, marked final, whether or not an empty final one was asked for."""
    answers = Answers()
    client.start_stream(answers)
    for number in range(4):
        client.async_stream_infer(
            "plain",
            features(ROWS + number),
            request_id=str(number),
            enable_empty_final_response=number % 2 == 1,
        )
    for number in range(4):
        result, error = answers.take()
        assert error is None
        response = result.get_response()
        assert response.id == str(number)
        assert response.parameters["triton_final_response"].bool_param
        np.testing.assert_array_equal(result.as_numpy("score"), np.add(SUMS, 3 * number))
    client.stop_stream()


def test_an_error_on_a_stream_names_its_request(client: triton.InferenceServerClient) -> None:
    """The answer that holds an error has the id, model and version of its request, and is final too."""
    from tritonclient.grpc import service_pb2

    requests = [
        service_pb2.ModelInferRequest(id="a", model_name="nobody", model_version="3"),
        service_pb2.ModelInferRequest(id="b", model_name="plain"),
    ]
    responses = list(client._client_stub.ModelStreamInfer(iter(requests), timeout=60))
    told = [
        (each.infer_response.id, each.infer_response.model_name, each.infer_response.model_version)
        for each in responses
    ]
    assert told == [("a", "nobody", "3"), ("b", "plain", "")]
    assert all(each.error_message for each in responses)
    assert all(each.infer_response.parameters["triton_final_response"].bool_param for each in responses)


def test_a_stream_that_is_cut_leaves_the_server_whole(client: triton.InferenceServerClient) -> None:
    """A client that cancels its stream in the middle of a run is told so, and a new stream works (E4, E5)."""
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("turns", turns(2**23))
    client.stop_stream(cancel_requests=True)
    assert answers.take()[1].status() == "StatusCode.CANCELLED"
    client.start_stream(answers)
    client.async_stream_infer("plain", features())
    result, error = answers.take()
    assert error is None
    np.testing.assert_array_equal(result.as_numpy("score"), SUMS)
    client.stop_stream()


def test_many_clients_share_the_server(sidecar: ThreadSidecar) -> None:
    """Threads with a client each, on both addresses, are answered side by side."""
    scores: list[list] = []

    def call(target: str) -> None:
        with triton.InferenceServerClient(target) as own:
            scores.extend(own.infer("plain", features()).as_numpy("score").tolist() for _ in range(50))

    threads = [threading.Thread(target=call, args=(target,)) for target in (sidecar.unix, sidecar.tcp) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert scores == [SUMS] * 50 * len(threads)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get_trace_settings(),
        lambda client: client.update_trace_settings(settings={"trace_rate": "1"}),
        lambda client: client.get_log_settings(),
        lambda client: client.update_log_settings({"log_info": True}),
        lambda client: client.get_cuda_shared_memory_status(),
        lambda client: client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 8),
        lambda client: client.unregister_cuda_shared_memory(),
    ],
    ids=["trace", "set trace", "log", "set log", "cuda status", "cuda register", "cuda unregister"],
)
def test_what_this_server_does_not_have_is_unimplemented(
    client: triton.InferenceServerClient, ask: Callable
) -> None:
    """Triton's settings by call and its GPU memory are answered with UNIMPLEMENTED, as gRPC says it."""
    with pytest.raises(InferenceServerException) as caught:
        ask(client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_answers_have_the_form_that_json_wants(client: triton.InferenceServerClient) -> None:
    """Whatever the client can turn into JSON it can turn into JSON here too."""
    assert client.get_server_metadata(as_json=True)["name"] == "tickserve"
    assert client.get_model_metadata("plain", as_json=True)["inputs"][0]["shape"] == ["-1", "3"]
    config = client.get_model_config("plain", as_json=True)["config"]
    assert config["input"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": ["-1", "3"]}]
    assert client.get_model_repository_index(as_json=True)["models"][0]["state"] == "READY"
    statistics = client.get_inference_statistics("mixed", as_json=True)["model_stats"]
    assert (statistics[0]["name"], statistics[0]["version"]) == ("mixed", "1")
    response = client.infer("plain", features(), request_id="j").get_response(as_json=True)
    assert (response["model_name"], response["id"]) == ("plain", "j")
