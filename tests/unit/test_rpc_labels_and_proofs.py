"""Both services over a real data plane and registry: labels, and what proves an answer."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from open_inference.v2 import inference_pb2 as oip
from servables import CONTRACT, FunctionServable
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.clock import SystemClock
from inference_server.core.errors import InvalidRequestError, NotFoundError, UnavailableError
from inference_server.core.servable import ServableId, State, VersionStatus, VettingResult
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.inspection import Inspection
from inference_server.rpc.method import CallContext
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.predictor import Predictor, PredictorOptions
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.rpc.status import Code
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry, Standing
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.statistics import Statistics

ROW = np.array([[1, 2, 3]], dtype="<f4")
VETTED = VettingResult(1_700_000_000_000_000_001, verified=True, text="3 golden rows", memory_bytes=12_345)
UNVERIFIED = VettingResult(1_700_000_000_000_000_002, verified=False, text="no contract", memory_bytes=6)
CALL = CallContext(None, "r-1")


class Services:
    """Both services over one registry: momentum 3 and 4 with a contract, plain 1 without."""

    def __init__(self, threads: RunThreads) -> None:
        clock, drain = SystemClock(), Drain()
        self.registry = Registry()
        self.registry.publish(FunctionServable(version=3), 1, VETTED)
        self.registry.publish(FunctionServable(version=4), 2, VETTED)
        self.registry.publish(FunctionServable("plain", contract=None), 3, UNVERIFIED)
        plane = DataPlane(self.registry, clock, DataPlaneOptions(), threads)
        accounting = Accounting(Statistics(), self.registry, clock)
        self.predictor = Predictor(
            plane, self.registry, clock, accounting=accounting, options=PredictorOptions()
        )
        self.open_inference = OpenInference(plane, clock, accounting, SharedTensors(None))
        self.inspection = Inspection(self.registry, drain, shared_memory=False)

    def label(self, **labels: int) -> None:
        """Let the labels of momentum be these."""
        self.registry.set_standing("momentum", Standing(labels=labels))

    def predict(self, model: str = "momentum", **fields: Any) -> wire.PartResult:
        """Ask for one row as one part."""
        part = wire.PredictPart(model=model, rows=1, features=ROW.tobytes(), **fields)
        return asyncio.run(self.predictor.predict(wire.PredictRequest(parts=[part]), CALL)).parts[0]

    def infer(self, model: str = "momentum", version: str = "") -> oip.ModelInferResponse:
        """Ask for one row by the standard protocol."""
        request = oip.ModelInferRequest(model_name=model, model_version=version)
        request.inputs.add(name="features", datatype="FP32", shape=ROW.shape)
        request.raw_input_contents.append(ROW.tobytes())
        return asyncio.run(self.open_inference.model_infer(request, CALL))

    def describe(self, model: str = "momentum") -> wire.ModelDescription:
        """Return what is said of one model."""
        request = wire.DescribeModelsRequest(models=[model])
        return asyncio.run(self.predictor.describe_models(request, CALL)).models[0]


@pytest.fixture
def services() -> Iterator[Services]:
    """Both services, with threads for what is slow."""
    with contextlib.closing(RunThreads()) as threads:
        yield Services(threads)


def test_a_label_is_answered_by_the_version_that_it_names(services: Services) -> None:
    """Both services answer a label by its version of the moment, and follow it when it moves."""
    services.label(canary=3)
    assert services.predict(label="canary").version == 3
    assert services.infer(version="canary").model_version == "3"
    services.label(canary=4)
    assert services.predict(label="canary").version == 4
    assert services.infer(version="canary").model_version == "4"


def test_a_label_stands_wherever_a_version_does(services: Services) -> None:
    """Readiness, metadata and configuration take a label too."""
    services.label(canary=3)
    inspection = services.inspection
    ready = [
        asyncio.run(inspection.model_ready(oip.ModelReadyRequest(name="momentum", version=label), CALL))
        for label in ("canary", "stable")
    ]
    assert [answer.ready for answer in ready] == [True, False]
    metadata = oip.ModelMetadataRequest(name="momentum", version="canary")
    assert asyncio.run(inspection.model_metadata(metadata, CALL)).properties["digest"] == f"{3:064x}"
    config = oip.ModelConfigRequest(name="momentum", version="stable")
    with pytest.raises(NotFoundError, match="has no label 'stable'; it has 'canary'"):
        asyncio.run(inspection.model_config(config, CALL))


def test_a_label_that_does_not_answer_says_why(services: Services) -> None:
    """NOT_FOUND for a label that is not there, UNAVAILABLE for one whose version loads, in both services."""
    services.label(canary=3, next=5)
    services.registry.set_status(VersionStatus(ServableId("momentum", 5), State.LOADING))
    assert services.predict(label="stable").status.code == Code.NOT_FOUND
    assert services.predict(label="next").status.code == Code.UNAVAILABLE
    with pytest.raises(NotFoundError, match="no label 'stable'"):
        services.infer(version="stable")
    with pytest.raises(UnavailableError, match="version 5 is LOADING"):
        services.infer(version="next")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"label": "canary", "version": 3}, "a version or a label, came version 3 and label 'canary'"),
        ({"label": "Canary"}, "expected up to 32 of a-z"),
        ({"label": "3"}, "expected up to 32 of a-z"),
        ({"version": -1}, "expected 0 or above"),
    ],
)
def test_a_wrong_label_is_that_parts_own_fault(services: Services, fields: dict, text: str) -> None:
    """Label and version together, or what is no label, is INVALID_ARGUMENT for that part."""
    services.label(canary=3)
    status = services.predict(**fields).status
    assert (status.code, text in status.message) == (Code.INVALID_ARGUMENT, True), status.message


def test_a_version_that_is_neither_number_nor_label_is_refused(services: Services) -> None:
    """D13: the standard protocol's version text is an integer or a label, and nothing is guessed."""
    with pytest.raises(InvalidRequestError, match="expected an integer above 0, a label"):
        services.infer(version="01")


def test_an_answer_names_its_bytes_and_what_proves_them(services: Services) -> None:
    """Each answer carries digest, contract hash, and when and how its bytes were vetted, on both services."""
    part = services.predict()
    assert (part.digest, part.contract_hash) == (f"{4:064x}", CONTRACT.hash)
    assert (part.vetted_at_ns, part.verified) == (VETTED.vetted_at_ns, True)
    parameters = services.infer().parameters
    assert set(parameters) == {"digest", "contract_hash", "vetted_at_ns", "verified"}
    assert parameters["digest"].string_param == f"{4:064x}"
    assert parameters["contract_hash"].string_param == CONTRACT.hash
    assert parameters["vetted_at_ns"].int64_param == VETTED.vetted_at_ns
    assert parameters["verified"].bool_param


def test_an_answer_without_a_contract_says_that_it_is_not_verified(services: Services) -> None:
    """A model that nobody vouches for is marked so in each of its answers."""
    part = services.predict("plain")
    assert (part.contract_hash, part.vetted_at_ns, part.verified) == ("", UNVERIFIED.vetted_at_ns, False)
    parameters = services.infer("plain").parameters
    assert set(parameters) == {"digest", "vetted_at_ns", "verified"}
    assert parameters["verified"].WhichOneof("parameter_choice") == "bool_param"
    assert not parameters["verified"].bool_param


def test_a_description_has_labels_pin_age_and_proof(services: Services) -> None:
    """What status shows of a model comes over the wire: labels, pin, since when behind, vetting, memory."""
    services.registry.set_standing(
        "momentum",
        Standing("refused", behind_since_ns=77, default_version=3, pinned_version=3, labels={"stable": 3}),
    )
    model = services.describe()
    assert (model.problem, model.behind_since_ns, model.default_version) == ("refused", 77, 3)
    assert (model.pinned_version, dict(model.labels)) == (3, {"stable": 3})
    version = model.versions[0]
    assert (version.version, version.vetted_at_ns, version.verified) == (4, VETTED.vetted_at_ns, True)
    assert (version.vetting, version.memory_bytes) == ("3 golden rows", 12_345)
    assert not services.describe("plain").versions[0].verified
    services.registry.set_status(VersionStatus(ServableId("momentum", 9), State.END, refused=True))
    assert [version.refused for version in services.describe().versions] == [True, False, False]
