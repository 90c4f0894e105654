"""`/metrics` of a real sidecar, as a scraper asks for it."""

import contextlib
import hashlib
import http.client
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from onnx_files import score_contract, score_model
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.address import Address

HTTP = Address(host="127.0.0.1")
# What Prometheus sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def scrape(sidecar: ThreadSidecar, accept: str = "") -> tuple[str, str]:
    """Return content type and text of one scrape."""
    url = f"http://127.0.0.1:{sidecar.sidecar.http_port}/metrics"
    opener = urllib.request.build_opener()
    opener.addheaders = [("Accept", accept)] if accept else []
    with opener.open(url, timeout=PATIENCE_S) as response:
        return response.headers["Content-Type"], response.read().decode()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """One sidecar with one model, for tests that only look."""
    folder = tmp_path_factory.mktemp("models")
    put(folder / "momentum.onnx", score_model())
    with thread_sidecar(folder, http=HTTP) as sidecar:
        yield sidecar


def samples(sidecar: ThreadSidecar) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels and value of all samples, by name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(scrape(sidecar)[1]):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def predict(sidecar: ThreadSidecar, rows: int) -> None:
    """Ask the sidecar about some rows."""
    request = wire.PredictRequest(
        parts=[wire.PredictPart(model="momentum", rows=rows, features=b"\0\0\x80?" * 3 * rows)]
    )
    with grpc.insecure_channel(sidecar.unix) as channel:
        stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S)


def test_metrics_prove_what_is_served(tmp_path: Path) -> None:
    """F5: digest, contract, vetting, times and rows of what is served: after a swap, of the new bytes."""
    with thread_sidecar(tmp_path, http=HTTP) as sidecar:
        assert samples(sidecar)["tickserve_ready"] == [({}, 0.0)]
        for bias in (0.0, 1.0):
            model = score_model(bias=bias)
            put(tmp_path / "momentum.onnx", model)
            sidecar.settle()
            found = samples(sidecar)
            ((labels, one),) = found["tickserve_version_info"]
            assert one == 1.0
            assert labels == {
                "model": "momentum",
                "version": "1",
                "state": "AVAILABLE",
                "digest": hashlib.sha256(model).hexdigest(),
                "contract_hash": score_contract().hash,
                "vetting": "verified",
            }
            ((_, vetted),) = found["tickserve_version_vetted_timestamp_seconds"]
            ((_, available),) = found["tickserve_version_available_since_timestamp_seconds"]
            assert 1.7e9 < vetted <= available
            assert found["tickserve_version_memory_bytes"][0][1] >= len(model)
            assert found["tickserve_model_ready"] == [({"model": "momentum"}, 1.0)]
            assert found["tickserve_model_default_version"] == [({"model": "momentum"}, 1.0)]
            assert found["tickserve_ready"] == [({}, 1.0)]
            # Counted from the load of these bytes on, so the swap began anew.
            assert found["tickserve_version_rows_answered_total"][0][1] == 0.0
            predict(sidecar, rows=5)
            eventually(lambda: samples(sidecar)["tickserve_version_rows_answered_total"][0][1] == 5.0, "rows")
            assert found["process_open_fds"][0][1] > 0


def test_metrics_tell_of_a_refused_file(tmp_path: Path) -> None:
    """A5: while a file is refused, what served goes on, and the model is behind until it is mended."""
    with thread_sidecar(tmp_path, http=HTTP) as sidecar:
        put(tmp_path / "momentum" / "1" / "model.onnx", score_model())
        sidecar.settle()
        key = {"model": "momentum"}
        assert samples(sidecar)["tickserve_model_behind"] == [(key, 0.0)]
        put(tmp_path / "momentum" / "2" / "model.onnx", score_model(n_features=2))
        sidecar.settle()
        found = samples(sidecar)
        states = {labels["version"]: labels["state"] for labels, _ in found["tickserve_version_info"]}
        assert states == {"1": "AVAILABLE", "2": "END"}
        vetting = {labels["version"]: labels["vetting"] for labels, _ in found["tickserve_version_info"]}
        assert vetting == {"1": "verified", "2": "refused"}
        assert found["tickserve_model_ready"] == [(key, 1.0)]
        assert found["tickserve_model_behind"] == [(key, 1.0)]
        assert samples(sidecar)["tickserve_model_behind_seconds"][0][1] > 0
        put(tmp_path / "momentum" / "2" / "model.onnx", score_model(bias=2.0))
        sidecar.settle()
        found = samples(sidecar)
        assert found["tickserve_model_behind"] == [(key, 0.0)]
        assert found["tickserve_model_behind_seconds"] == [(key, 0.0)]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        ('application/openmetrics-text; version="1.0.0"', "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=banana", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_a_scraper_gets_the_form_that_it_asks_for(
    plain: ThreadSidecar, caplog: pytest.LogCaptureFixture, accept: str, content_type: str
) -> None:
    """D15: OpenMetrics for who asks for it, the plain form for everyone else, and never an error."""
    told, text = scrape(plain, accept)
    assert told == content_type
    read = openmetrics_families if "openmetrics" in told else text_string_to_metric_families
    families: dict[str, Metric] = {family.name: family for family in read(text)}
    assert families["tickserve_ready"].samples[0].value == 1.0
    assert families["tickserve_version_rows_answered"].type == "counter"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_two_sidecars_in_one_process_have_metrics_of_their_own(tmp_path: Path) -> None:
    """F9: nothing is global: each of two sidecars tells its own models, the library's registry none."""
    for name in ("first", "second"):
        put(tmp_path / name / f"{name}.onnx", score_model(name))
    with (
        thread_sidecar(tmp_path / "first", http=HTTP) as first,
        thread_sidecar(tmp_path / "second", http=HTTP) as second,
    ):
        for sidecar, name in ((first, "first"), (second, "second")):
            assert samples(sidecar)["tickserve_model_ready"] == [({"model": name}, 1.0)]
        assert not [family for family in REGISTRY.collect() if family.name.startswith("tickserve")]


def test_metrics_are_read_and_never_written(plain: ThreadSidecar) -> None:
    """Other methods than GET and HEAD are refused; HEAD says what GET would."""
    statuses = {}
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        connection = http.client.HTTPConnection("127.0.0.1", plain.sidecar.http_port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, "/metrics")
            statuses[method] = connection.getresponse().status
    assert statuses == {"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405}
