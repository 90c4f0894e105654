"""The dashboard and the alerts, on a real Prometheus that scrapes a real sidecar under a little traffic."""

import contextlib
import json
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
from onnx_files import score_model
from prometheus import MISSING, Prometheus, prometheus
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.address import Address

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "tickserve.rules.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "tickserve.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Grafana puts in the place of its own variables. The sidecar is scraped five times a second.
FILLED = {"$__rate_interval": "10s", "$job": ".*", "$instance": ".*", "$model": ".*"}
GOOD = np.array([[1, 2, 3]], dtype="<f4").tobytes()
BAD = np.array([[1, np.nan, 3]], dtype="<f4").tobytes()
PARTS = (
    wire.PredictPart(model="momentum", rows=1, features=GOOD),
    wire.PredictPart(model="momentum", rows=1, features=BAD),
    wire.PredictPart(model="made up", rows=1, features=GOOD),
)


class Traffic:
    """Asks all the time: a good row, a bad one and an unknown model with each call; counts its calls."""

    def __init__(self, sidecar: ThreadSidecar) -> None:
        self._sidecar = sidecar
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.calls = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with grpc.insecure_channel(self._sidecar.unix) as channel:
            predict = stub(channel, "Predict", wire.PredictResponse)
            while not self._stop.wait(0.02):
                predict(wire.PredictRequest(parts=PARTS), timeout=PATIENCE_S)
                self.calls += 1


def filled(expression: str) -> str:
    """Return an expression of the dashboard with its variables filled in."""
    for name, value in FILLED.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def has_data(server: Prometheus, expression: str) -> bool:
    """Say whether a panel has a number to show."""
    return any(not math.isnan(float(series["value"][1])) for series in server.query(expression))


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, ThreadSidecar, Traffic]]:
    """A sidecar with traffic, a swap, a rollback and a refused file behind it, all of it scraped."""
    folder = tmp_path_factory.mktemp("scraped")
    models = folder / "models"
    put(models / "momentum.onnx", score_model())
    with (
        thread_sidecar(models, http=Address(host="127.0.0.1")) as sidecar,
        prometheus(folder, f"127.0.0.1:{sidecar.sidecar.http_port}", RULES) as server,
        Traffic(sidecar) as traffic,
    ):
        eventually(
            lambda: has_data(server, 'rate(tickserve_calls_total{status="OK"}[10s])'), "calls are seen"
        )
        put(models / "momentum.onnx", score_model(bias=1.0))
        sidecar.settle()
        sidecar.run(sidecar.sidecar.operator.rollback("momentum"))
        put(models / "momentum.onnx", score_model(n_features=2))
        sidecar.settle()
        refusals = filled(next(it for it in PANELS if it["title"] == "Refusals")["targets"][0]["expr"])
        eventually(lambda: 1.0 in server.values(refusals).values(), "the panel shows the first refusal")
        yield server, sidecar, traffic


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_shows_something(
    scraped: tuple[Prometheus, ThreadSidecar, Traffic], panel: dict[str, Any]
) -> None:
    """Each expression of each panel has data: a metric that is renamed empties no panel unseen."""
    server, _, _ = scraped
    assert panel["targets"]
    for target in panel["targets"]:
        expression = filled(target["expr"])
        eventually(
            lambda expression=expression: has_data(server, expression), f"{panel['title']}: {expression}"
        )


def test_what_the_dashboard_can_be_narrowed_to(scraped: tuple[Prometheus, ThreadSidecar, Traffic]) -> None:
    """The variables offer the job, the sidecar and its models, and what is chosen narrows a panel."""
    server, sidecar, _ = scraped
    offered = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            call = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            offered[variable["name"]] = server.label_values(filled(call[1]), call[2])
    instance = f"127.0.0.1:{sidecar.sidecar.http_port}"
    assert offered == {"job": ["tickserve"], "instance": [instance], "model": ["momentum"]}
    (panel,) = (panel for panel in PANELS if panel["title"] == "Calls by status")
    chosen = panel["targets"][0]["expr"].replace("$model", "another")
    assert server.query(filled(chosen)) == []


def test_what_prometheus_counts_is_what_was_asked(scraped: tuple[Prometheus, ThreadSidecar, Traffic]) -> None:
    """F5: calls, failures, RPCs, swaps, rollbacks and refusals are what caller and operator know."""
    server, sidecar, traffic = scraped
    traffic.end()
    calls = traffic.calls
    assert calls > 10

    def total(metric: str, by: str) -> dict[tuple[str, ...], float]:
        return server.values(f"sum by ({by}) ({metric})")

    def is_told(metric: str, by: str, told: dict[tuple[str, ...], float]) -> None:
        # The last scrape may have been in the middle of the last call, and the next one may fail.
        eventually(lambda: total(metric, by) == told, f"{metric} is {told}, it is {total(metric, by)}")

    counts = {
        ("momentum", "OK"): calls,
        ("momentum", "non_finite", "INVALID_ARGUMENT"): calls,
        ("model_not_found", "NOT_FOUND"): calls,
    }
    is_told("tickserve_calls_total", "model, status, reason", counts)
    for part in ("", "queue_", "input_", "inference_", "output_"):
        is_told(f"tickserve_call_{part}seconds_count", "model", {("momentum",): calls})
    is_told('tickserve_rpc_seconds_count{method=~".+/Predict"}', "status", {("OK",): calls})
    is_told('tickserve_rpcs_in_flight{method=~".+/Predict"}', "job", {(): 0})
    statistics = sidecar.sidecar.statistics.models["momentum"]
    assert sum(version.answered for version in statistics.values()) == calls
    is_told("tickserve_model_swaps_total", "model", {("momentum",): 2})
    is_told("tickserve_model_rollbacks_total", "model", {("momentum",): 1})
    is_told("tickserve_model_refusals_total", "model, step", {("momentum", "contract"): 1})
    (served,) = (
        version.digest for model in sidecar.sidecar.registry.describe() for version in model.versions[-1:]
    )
    available = 'tickserve_version_info{state="AVAILABLE"}'
    eventually(lambda: (served, "momentum") in total(available, "digest, model"), "what is served is told")


def test_the_alerts_that_hold_are_the_ones_that_show(
    scraped: tuple[Prometheus, ThreadSidecar, Traffic],
) -> None:
    """A refused file shows as an alert of a real Prometheus; a sidecar that is well gives none other."""
    server, _, _ = scraped
    # A machine that is busy with tests keeps a loop waiting, and a call; for a moment a scrape, too.
    busy = {"TickserveEventLoopLag", "TickserveSlow"}
    eventually(lambda: server.alerts() - busy == {"TickserveModelProblem"}, "the refusal alone is an alert")


def test_each_alert_keeps_still_and_fires_where_it_should() -> None:
    """The tool of Prometheus runs the rules' own unit tests, and finds every alert in them."""
    tests = RULES.with_name("tickserve.test.yml")
    done = subprocess.run(["promtool", "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    text = tests.read_text()
    for alert in alerts:
        expected = re.findall(rf"alertname: {alert}\n +exp_alerts:(.*)", text)
        assert "" in expected, f"{alert} is never seen firing"
        assert " []" in expected, f"{alert} is never seen to keep still"


def test_prometheus_takes_the_example_of_a_configuration() -> None:
    """deploy/prometheus/prometheus.yml and the rules that it names are good."""
    for arguments in (("config", "prometheus.yml"), ("rules", RULES.name)):
        done = subprocess.run(
            ["promtool", "check", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    """Nothing is told that no operator ever sees."""
    page = (DEPLOY.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(tickserve_\w+?)(?:_total)?` \|", page, re.MULTILINE))
    shown = json.dumps(DASHBOARD) + RULES.read_text()
    assert {name for name in told if name not in shown} <= {
        "tickserve_model_ready",
        "tickserve_model_behind",
        "tickserve_model_default_version",
        "tickserve_model_pinned_version",
        "tickserve_version_vetted_timestamp_seconds",
    }


def test_the_dashboard_is_put_together_as_grafana_wants_it() -> None:
    """Panels have numbers of their own, lie beside each other, and every query has the chosen data source."""
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "job", "instance", "model"]
    with contextlib.suppress(KeyError):
        assert DASHBOARD["id"] is None  # Grafana gives it
