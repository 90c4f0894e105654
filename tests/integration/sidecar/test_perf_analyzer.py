"""`perf_analyzer`, the load generator of Triton's makers, against a real sidecar."""

from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
from fetched import CannotRunError
from onnx_files import score_model
from perf_analyzer import PerfAnalyzer, Report, perf_analyzer
from sidecars import ThreadSidecar, put, thread_sidecar
from tritonclient.utils import InferenceServerException

from inference_server.adapters.shared_memory import SharedMemoryOptions

pytestmark = pytest.mark.slow  # each run of the program takes a second


@pytest.fixture(scope="module")
def analyzer() -> PerfAnalyzer:
    """The program, or a skip that says why there is none."""
    try:
        return perf_analyzer()
    except CannotRunError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """Serve one model, with shared memory; calls that reached no version and no model are counted already."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model("momentum"))
    with thread_sidecar(models, shared_memory=SharedMemoryOptions()) as running:
        with triton.InferenceServerClient(running.unix) as client:
            for model, version in (("momentum", "9"), ("nobody", "")):
                with pytest.raises(InferenceServerException):
                    client.infer(model, [], model_version=version)
        yield running


def measure(
    sidecar: ThreadSidecar, analyzer: PerfAnalyzer, target: str, concurrency: int, *arguments: str
) -> Report:
    """Let it send requests; its own count, its report of the server and our statistics agree."""
    before = counted(sidecar)
    report = analyzer.run(
        *("-m", "momentum", "-i", "grpc", "-u", getattr(sidecar, target), "--shape", "features:1,3"),
        *("--concurrency-range", str(concurrency), *arguments),
    )
    answered, failed = (now - then for now, then in zip(counted(sidecar), before, strict=True))
    assert failed == 0, report.text
    # It counts what was answered within its windows, and leaves out what came between. It asks for the
    # statistics when its requests are under way already, so that these have other edges.
    successes = report.number("Successful request count")
    assert 0 < report.number("Request count") <= answered, report.text
    assert 0 < successes <= answered, report.text
    assert report.number("Inference count") == report.number("Execution count") == successes
    assert "WARNING" not in report.text
    assert "rror" not in report.text
    return report


def counted(sidecar: ThreadSidecar) -> tuple[int, int]:
    """Calls answered and failed so far, whatever they named."""
    versions = [each for model in sidecar.sidecar.statistics.models.values() for each in model.values()]
    return sum(each.answered for each in versions), sum(each.failures for each in versions)


@pytest.mark.parametrize("target", ["tcp", "unix"])
@pytest.mark.parametrize("concurrency", [1, 8, 32])
@pytest.mark.parametrize("mode", [(), ("--streaming",)], ids=["unary", "streaming"])
def test_every_request_is_answered_and_counted(
    sidecar: ThreadSidecar, analyzer: PerfAnalyzer, target: str, concurrency: int, mode: tuple[str, ...]
) -> None:
    """At each concurrency no request fails, and the server's numbers are the client's (F5)."""
    report = measure(sidecar, analyzer, target, concurrency, *mode)
    for part in ("overhead", "queue", "compute input", "compute infer", "compute output"):
        assert f"{part} " in report.text


def test_tensors_travel_in_shared_memory(sidecar: ThreadSidecar, analyzer: PerfAnalyzer) -> None:
    """Its C++ client registers regions, sends and receives through them, and takes them back at the end."""
    measure(sidecar, analyzer, "unix", 4, "--shared-memory", "system", "--output-shared-memory-size", "64")
