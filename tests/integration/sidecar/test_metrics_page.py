"""docs/metrics.md, held against what a sidecar tells, the alerts, and the code."""

import re
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sidecars import PATIENCE_S, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core import errors
from inference_server.core.errors import Reason
from inference_server.core.servable import State
from inference_server.rpc.address import Address
from inference_server.rpc.status import CODES
from inference_server.serving.changes import STEPS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RULES = (ROOT / "deploy" / "prometheus" / "tickserve.rules.yml").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """Return the cells of the tables of one section of the page, without their heads."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def words(cell: str) -> list[str]:
    """Return the words of a cell that are set as code."""
    return re.findall(r"`(\w+)`", cell)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """Every family of a sidecar that answered a call and refused another, and a file."""
    models = tmp_path_factory.mktemp("models")
    put(models / "momentum.onnx", score_model())
    row = np.array([[1, 2, 3]], dtype="<f4").tobytes()
    parts = [wire.PredictPart(model=name, rows=1, features=row) for name in ("momentum", "none")]
    with (
        thread_sidecar(models, http=Address(host="127.0.0.1")) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        stub(channel, "Predict", wire.PredictResponse)(wire.PredictRequest(parts=parts), timeout=PATIENCE_S)
        put(models / "momentum.onnx", score_model(n_features=2))
        sidecar.settle()
        request = urllib.request.Request(
            f"http://127.0.0.1:{sidecar.sidecar.http_port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - ours
            return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def test_every_metric_is_on_the_page_with_its_type_and_labels(told: dict[str, Metric]) -> None:
    """What a scrape gives is what the page has a row for, and the other way round."""
    page = {}
    for section in ("The sidecar", "Models and versions", "Calls and RPCs"):
        for name, kind, labels, *meaning in (row for row in rows(section) if len(row) == 4):
            assert meaning[0].endswith(".")
            (word,) = words(name)
            page[word.removesuffix("_total")] = (kind, set(words(labels)), word.endswith("_total"))
    found = {
        name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
            family.type == "counter",
        )
        for name, family in told.items()
    }
    assert all(family.samples for family in told.values()), "each has a series, so that its labels are seen"
    assert page == found


def test_every_alert_is_on_the_page_with_its_severity() -> None:
    """Whoever is woken finds what to do."""
    alerts = re.findall(r"alert: (\w+)$.+?severity: (\w+)", RULES, re.MULTILINE | re.DOTALL)
    assert [(words(name)[0], severity) for name, severity, _ in rows("Alerts")] == alerts
    assert len(alerts) == RULES.count("alert:")


def test_every_reason_is_on_the_page_with_its_status() -> None:
    """The table of reasons is the list of the code, each with the status that its error has."""
    page = {reason: row[1] for row in rows("Calls and RPCs") if len(row) == 3 for reason in words(row[0])}
    assert set(page) == {reason.value for reason in Reason}
    for kind, code in CODES.items():
        assert page[kind.usual_reason.value] == code.name
    assert page[Reason.SHUTTING_DOWN.value] == CODES[errors.UnavailableError].name
    assert page[Reason.EXPIRED.value] == CODES[errors.DeadlineExceededError].name


def test_every_step_and_state_is_on_the_page() -> None:
    """The short lists that become labels are there whole."""
    steps = re.search(r"The steps of a refusal: (.+?)\. A file", PAGE, re.DOTALL)
    assert steps
    assert re.findall(r"`([\w-]+)`", steps[1]) == list(STEPS)
    assert all(state.value in PAGE for state in State)


def test_what_the_page_names_is_there() -> None:
    """Panels, files and links that the page sends a reader to exist."""
    dashboard = (ROOT / "deploy" / "grafana" / "tickserve.json").read_text(encoding="utf-8")
    for title in re.findall(r"(?<!\*)\*([A-Z][\w ,]+)\*(?!\*)", PAGE):
        assert f'"title": "{title}"' in dashboard, title
    for path in re.findall(r"`(deploy/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w.-]+\.md)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
