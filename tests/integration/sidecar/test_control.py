"""`tickserve.v1.Control` over real sockets and files: rollback, resume and labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from sidecars import PATIENCE_S, ThreadSidecar, describe, eventually, put, stub, thread_sidecar
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.status import Code
from inference_server.serving.policy import All
from inference_server.serving.settings import ModelSettings

ROW = np.array([1, 2, 3], dtype="<f4")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with two versions of one model, which differ in their bias."""
    for version in (3, 4):
        file = tmp_path / "models" / "momentum" / str(version) / "model.onnx"
        put(file, score_model("momentum", bias=float(version)))
    return tmp_path / "models"


@pytest.fixture
def sidecar(models: Path) -> Iterator[ThreadSidecar]:
    """Serve every version found."""
    with thread_sidecar(models, settings={"momentum": ModelSettings(policy=All())}) as running:
        yield running


@pytest.fixture
def channel(sidecar: ThreadSidecar) -> Iterator[grpc.Channel]:
    """A channel to it."""
    with grpc.insecure_channel(sidecar.unix) as made:
        yield made


def order(channel: grpc.Channel, name: str, **fields: Any) -> Any:
    """Give one order."""
    request = getattr(orders, f"{name}Request")(**fields)
    response = getattr(orders, f"{name}Response")
    return stub(channel, f"/tickserve.v1.Control/{name}", response)(request, timeout=PATIENCE_S)


def answer(channel: grpc.Channel, model: str = "momentum", **fields: Any) -> tuple[int, float]:
    """Ask for one row; return the version that answered and its bias."""
    part = wire.PredictPart(model=model, rows=1, features=ROW.tobytes(), **fields)
    request = wire.PredictRequest(parts=[part])
    result = stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S).parts[0]
    assert result.status.code == Code.OK, result.status.message
    return result.version, float(np.frombuffer(result.outputs[0].raw, "<f4")[0]) - 6


def test_a_rollback_pins_what_answered_before(channel: grpc.Channel) -> None:
    """One order takes callers back, labels with them; resume lets the repository count again."""
    order(channel, "SetLabel", model="momentum", label="stable", version=4)
    digests = {version.version: version.digest for version in describe(channel).models[0].versions}
    assert answer(channel) == (4, 4.0)
    done = order(channel, "Rollback", model="momentum")
    assert (done.from_version, done.from_digest) == (4, digests[4])
    assert (done.to_version, done.to_digest) == (3, digests[3])
    assert list(done.moved_labels) == ["stable"]
    assert answer(channel) == answer(channel, label="stable") == (3, 3.0)
    (model,) = describe(channel).models
    assert (model.default_version, model.pinned_version, dict(model.labels)) == (3, 3, {"stable": 3})
    assert "held since a rollback" in model.problem
    assert model.behind_since_ns
    order(channel, "Resume", model="momentum")
    eventually(lambda: answer(channel) == (4, 4.0), "the newest version answers again")
    assert describe(channel).models[0].pinned_version == 0


def test_a_file_replaced_in_place_is_taken_back(tmp_path: Path) -> None:
    """The bytes that were replaced answer again under the same version number, and are proven by digest."""
    models = tmp_path / "models"
    put(models / "one.onnx", score_model("one", bias=1.0))
    with thread_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        first = describe(channel).models[0].versions[0].digest
        put(models / "one.onnx", score_model("one", bias=2.0))
        eventually(lambda: answer(channel, "one") == (1, 2.0), "the new file answers")
        done = order(channel, "Rollback", model="one")
        assert (done.from_version, done.to_version, done.to_digest) == (1, 1, first)
        assert answer(channel, "one") == (1, 1.0)
        sidecar.settle()
        assert answer(channel, "one") == (1, 1.0)
        put(models / "one.onnx", score_model("one", bias=3.0))
        eventually(lambda: answer(channel, "one") == (1, 3.0), "a file that came later counts")
        assert describe(channel).models[0].pinned_version == 0


def test_a_label_moves_and_goes(channel: grpc.Channel) -> None:
    """A label set by hand names its version until it is set to another, and is gone when it is deleted."""
    order(channel, "SetLabel", model="momentum", label="canary", version=3)
    assert answer(channel, label="canary") == (3, 3.0)
    order(channel, "SetLabel", model="momentum", label="canary", version=4)
    assert answer(channel, label="canary") == (4, 4.0)
    order(channel, "DeleteLabel", model="momentum", label="canary")
    assert dict(describe(channel).models[0].labels) == {}
    part = wire.PredictPart(model="momentum", rows=1, features=ROW.tobytes(), label="canary")
    response = stub(channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=PATIENCE_S
    )
    assert response.parts[0].status.code == Code.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "fields", "code", "text"),
    [
        ("Rollback", {"model": "nobody"}, "NOT_FOUND", "nobody"),
        ("Rollback", {}, "NOT_FOUND", "no model ''"),
        ("Resume", {"model": "momentum"}, "FAILED_PRECONDITION", "is not rolled back"),
        ("Resume", {"model": "nobody"}, "NOT_FOUND", "nobody"),
        (
            "SetLabel",
            {"model": "momentum", "label": "canary", "version": 5},
            "FAILED_PRECONDITION",
            "cannot move to version 5, which is not available; available: 3, 4",
        ),
        ("SetLabel", {"model": "momentum", "label": "A", "version": 3}, "INVALID_ARGUMENT", "label 'A'"),
        ("SetLabel", {"model": "momentum", "label": "a"}, "INVALID_ARGUMENT", "version: expected"),
        ("SetLabel", {"model": "nobody", "label": "a", "version": 3}, "NOT_FOUND", "nobody"),
        ("DeleteLabel", {"model": "momentum", "label": "canary"}, "NOT_FOUND", "no label 'canary'"),
        ("DeleteLabel", {"model": "nobody", "label": "canary"}, "NOT_FOUND", "nobody"),
    ],
)
def test_an_order_that_cannot_be_has_its_status_and_changes_nothing(
    channel: grpc.Channel, name: str, fields: dict[str, Any], code: str, text: str
) -> None:
    """A label cannot move to what is not available; each wrong order says what is wrong with it."""
    before = describe(channel)
    with pytest.raises(grpc.RpcError) as caught:
        order(channel, name, **fields)
    assert caught.value.code().name == code
    assert text in caught.value.details()
    assert describe(channel) == before


def test_a_rollback_with_nothing_before_is_refused(tmp_path: Path) -> None:
    """What was served first has nothing to go back to; it goes on answering, and nothing is pinned."""
    put(tmp_path / "one.onnx", score_model("one"))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        with pytest.raises(grpc.RpcError, match="nothing to roll back to") as caught:
            order(channel, "Rollback", model="one")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert answer(channel, "one") == (1, 0.0)
        assert describe(channel).models[0].pinned_version == 0


def test_each_answer_says_when_its_bytes_were_vetted(channel: grpc.Channel) -> None:
    """Prediction and description agree on digest, time and outcome of vetting, of real files."""
    part = wire.PredictPart(model="momentum", rows=1, features=ROW.tobytes())
    result = stub(channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=PATIENCE_S
    )
    told, described = result.parts[0], describe(channel).models[0].versions[0]
    assert (told.digest, told.vetted_at_ns, told.verified) == (
        *(described.digest, described.vetted_at_ns, True),
    )
    assert 0 < described.vetted_at_ns <= described.available_since_ns
    assert described.verified
    assert described.memory_bytes > 0
    assert "golden rows" in described.vetting
