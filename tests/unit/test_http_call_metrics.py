"""What `/metrics` says of calls and RPCs is what the statistics hold, series by series."""

import asyncio
import gc
import shutil
import subprocess
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from manual_clock import ManualClock
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from servables import FunctionServable

from inference_server.core.errors import Reason
from inference_server.core.servable import VettingResult
from inference_server.http.call_metrics import CallsCollector
from inference_server.http.heap_metrics import HeapCollector
from inference_server.http.metrics import SLICE, metrics
from inference_server.http.served_metrics import ServedCollector
from inference_server.http.server_metrics import Bounded, ServerCollector
from inference_server.serving.changes import Changes
from inference_server.serving.drain import Drain
from inference_server.serving.loop_lag import LoopLag
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import MAX_MODELS, MAX_VERSIONS, NO_MODEL, Statistics, Timing

MS = 1_000_000
TIMING = Timing(queue_ns=MS, input_ns=2 * MS, infer_ns=3 * MS, output_ns=4 * MS, total_ns=10 * MS)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[str, dict[tuple[str, ...], float]]


class Parts:
    """Everything that a scrape reads, and the scrape."""

    def __init__(self) -> None:
        self.statistics, self.changes = Statistics(), Changes()
        self.registry = Registry(changes=self.changes)
        self.lag = LoopLag(ManualClock())
        self.calls, self.memory = 3, 1000
        builds = {"version": "1.2.3", "python": "3.11"}
        calls, memory = Bounded(lambda: self.calls, 1024), Bounded(lambda: self.memory, 4096)
        (route,) = metrics(
            [
                ServerCollector(builds, calls, memory, self.lag),
                HeapCollector(),
                ServedCollector(
                    self.registry, self.changes, Drain(), ManualClock(), lambda model: (len(model), 1024)
                ),
                CallsCollector(self.statistics),
            ]
        )
        self._answer: Callable[[web.Request], web.Response] = route.handler

    def text(self, accept: str = "", between: Callable[[], None] = lambda: None) -> str:
        """Scrape; `between` is done at every turn that the scrape gives."""
        request = make_mocked_request("GET", "/metrics", {"Accept": accept})

        async def scraped() -> str:
            scraping = asyncio.create_task(self._answer(request))
            while not scraping.done():
                between()
                await asyncio.sleep(0)
            return scraping.result().body.decode()

        return asyncio.run(scraped())

    def samples(self) -> Samples:
        """Return all samples by name and by the labels' values."""
        found: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                by_labels = found.setdefault(sample.name, {})
                assert tuple(sample.labels.values()) not in by_labels
                by_labels[tuple(sample.labels.values())] = sample.value
        return found


def test_every_call_is_told_by_how_it_ended() -> None:
    """F5: answered and failed calls by model, version, status and reason, with their times."""
    parts = Parts()
    for _ in range(2):
        parts.statistics.answered("momentum", 3, 5, TIMING, wall_ns=1)
    parts.statistics.failed("momentum", 3, "RESOURCE_EXHAUSTED", Reason.MODEL_FULL, 7 * MS)
    parts.statistics.failed(NO_MODEL, 0, "NOT_FOUND", Reason.MODEL_NOT_FOUND, MS)
    samples = parts.samples()
    full = ("momentum", "model_full", "RESOURCE_EXHAUSTED", "3")  # as they are written: sorted by their names
    unknown = ("", "model_not_found", "NOT_FOUND", "0")
    assert samples["tickserve_calls_total"] == {("momentum", "", "OK", "3"): 2.0, full: 1.0, unknown: 1.0}
    assert samples["tickserve_failed_call_seconds_count"] == {full: 1.0, unknown: 1.0}
    assert samples["tickserve_failed_call_seconds_sum"] == {full: 0.007, unknown: 0.001}
    for name, one_s in (("queue_", 1), ("input_", 2), ("inference_", 3), ("output_", 4), ("", 10)):
        of_all = f"tickserve_call_{name}seconds"
        assert samples[f"{of_all}_count"] == {("momentum", "3"): 2.0}
        assert samples[f"{of_all}_sum"] == {("momentum", "3"): pytest.approx(2e-3 * one_s)}


def test_buckets_grow_to_the_count() -> None:
    """F5: a histogram's buckets hold what is at or below their bound, in seconds; the last one holds all."""
    parts = Parts()
    for total_ns in (25_000, 25_001, 11 * 10**9):
        timing = Timing(queue_ns=0, input_ns=0, infer_ns=0, output_ns=0, total_ns=total_ns)
        parts.statistics.answered("m", 1, 1, timing, wall_ns=1)
    found = parts.samples()["tickserve_call_seconds_bucket"]
    by_bound = {float(bound): value for (bound, _, _), value in found.items()}
    assert len(by_bound) == 16
    assert list(by_bound.values()) == sorted(by_bound.values())
    assert [by_bound[bound] for bound in (2.5e-5, 5e-5, 10.0, float("inf"))] == [1.0, 2.0, 2.0, 3.0]


def test_rpcs_are_told_by_method_and_status() -> None:
    """F6: RPCs ended by status and those in flight; the latter return to 0 and stay as a series."""
    parts = Parts()
    parts.statistics.rpc_began("/s/M")
    parts.statistics.rpc_began("/s/M")
    parts.statistics.rpc_ended("/s/M", "OK", 2 * MS)
    samples = parts.samples()
    assert samples["tickserve_rpcs_in_flight"] == {("/s/M",): 1.0}
    assert samples["tickserve_rpc_seconds_count"] == {("/s/M", "OK"): 1.0}
    assert samples["tickserve_rpc_seconds_sum"] == {("/s/M", "OK"): 0.002}
    parts.statistics.rpc_ended("/s/M", "CANCELLED", MS)
    assert parts.samples()["tickserve_rpcs_in_flight"] == {("/s/M",): 0.0}


def test_what_is_taken_is_told_beside_its_bound() -> None:
    """E6: calls in flight and memory stand beside their bounds, so that an alert can divide."""
    parts = Parts()
    parts.registry.publish(FunctionServable(), 1)
    parts.lag.durations.add(3 * MS)
    samples = parts.samples()
    assert samples["tickserve_calls_in_flight"] == {(): 3.0}
    assert samples["tickserve_calls_in_flight_bound"] == {(): 1024.0}
    assert samples["tickserve_model_calls_in_flight"] == {("momentum",): 8.0}
    assert samples["tickserve_model_calls_in_flight_bound"] == {("momentum",): 1024.0}
    assert samples["tickserve_models_memory_bytes"] == {(): 1000.0}
    assert samples["tickserve_models_memory_bound_bytes"] == {(): 4096.0}
    assert samples["tickserve_build_info"] == {("3.11", "1.2.3"): 1.0}
    assert samples["tickserve_event_loop_lag_seconds_sum"] == {(): 0.003}


def test_what_is_allocated_is_told() -> None:
    """E6: what was allocated since is in it, and what was freed again is not."""
    parts = Parts()
    gc.collect()  # what earlier tests left is not to be freed meanwhile
    before = parts.samples()
    held = bytearray(64 << 20)
    texts = [f"text {number}" for number in range(300_000)]
    during = parts.samples()
    del held, texts
    after = parts.samples()
    for name, grown in (("tickserve_heap_bytes", 64 << 20), ("tickserve_python_blocks", 300_000)):
        first, then, last = (samples[name][()] for samples in (before, during, after))
        assert then - first > 0.75 * grown
        assert last - first < 0.25 * grown


def test_changes_are_told_of_every_model_that_is_known() -> None:
    """A5: swaps, refusals by step, rollbacks, vetting and loads; 0 where nothing happened yet."""
    parts = Parts()
    for name in ("momentum", "quiet"):
        parts.registry.publish(FunctionServable(name, 1), 1)
    parts.changes.swapped("momentum")
    parts.changes.rolled_back("momentum")
    parts.changes.refused("momentum", "answers")
    parts.changes.vetted("momentum", 40 * MS)
    parts.changes.loaded("momentum", 20 * MS)
    parts.changes.swapped("gone")
    samples = parts.samples()
    known = {("momentum",), ("quiet",)}
    for name in (
        "model_swaps_total",
        "model_rollbacks_total",
        "model_vetting_seconds_count",
        "model_load_seconds_count",
    ):
        assert samples[f"tickserve_{name}"] == dict.fromkeys(known, 0.0) | {("momentum",): 1.0}
    assert samples["tickserve_model_refusals_total"] == {("momentum", "answers"): 1.0}
    assert samples["tickserve_model_vetting_seconds_sum"][("momentum",)] == 0.04
    assert samples["tickserve_model_load_seconds_sum"][("momentum",)] == 0.02
    assert samples["tickserve_versions"][("AVAILABLE",)] == 2.0


def test_a_family_in_slices_is_one_family() -> None:
    """B2: with models for many slices, each family is written once, in both forms, while calls go on."""
    parts = Parts()
    names = [f"model {number}" for number in range(SLICE + 10)]
    vetting = VettingResult(vetted_at_ns=1, verified=True, text="good", memory_bytes=1)
    for name in names:
        parts.registry.publish(FunctionServable(name, 1), 10**9, vetting)
        parts.statistics.answered(name, 1, 1, TIMING, wall_ns=1)
    for number in range(40):
        parts.statistics.rpc_began("/s/M")
        parts.statistics.rpc_ended("/s/M", f"status before {number}", 1)
    turns = iter(range(100_000))

    def call() -> None:
        if (turn := next(turns)) % 8 == 0:
            parts.statistics.answered(f"another {turn}", 1, 1, TIMING, wall_ns=1)
            parts.statistics.rpc_began("/s/M")
            parts.statistics.rpc_ended("/s/M", f"status {turn}", 1)

    for text, read in (
        (parts.text(between=call), text_string_to_metric_families),
        (parts.text(OPEN_METRICS, between=call), openmetrics_families),
    ):
        families = {family.name: family for family in read(text)}
        assert text.count("# TYPE ") == len(families)
        for name in (
            "version_info",
            "version_rows_answered",
            "model_swaps",
            "call_seconds",
            "call_queue_seconds",
        ):
            found = {sample.labels["model"] for sample in families[f"tickserve_{name}"].samples}
            assert found >= set(names)
    assert next(turns) > 100


def test_statistics_do_not_grow_with_models_that_come_and_go() -> None:
    """B3: of more models than the bound the one idle longest is forgotten; version 0 stays with its model."""
    statistics = Statistics()
    statistics.failed("kept", 0, "NOT_FOUND", Reason.VERSION_NOT_FOUND, 1)
    for version in range(1, MAX_VERSIONS + 3):
        statistics.failed("kept", version, "INTERNAL", Reason.MODEL_FAILED, 1)
    assert set(statistics.models["kept"]) == {0, *range(3, MAX_VERSIONS + 3)}
    for number in range(MAX_MODELS):
        if number == MAX_MODELS - 1:
            statistics.answered("kept", 3, 1, TIMING, 1)
        statistics.answered(f"model {number}", 1, 1, TIMING, 1)
    assert len(statistics.models) == MAX_MODELS
    assert "kept" in statistics.models
    assert "model 0" not in statistics.models


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_blame() -> None:
    """Names, units, types and help texts are as Prometheus' own linter wants them."""
    parts = Parts()
    parts.registry.publish(
        FunctionServable(), 1, VettingResult(1, verified=True, text="good", memory_bytes=1)
    )
    parts.statistics.answered("momentum", 3, 5, TIMING, wall_ns=1)
    parts.statistics.failed("momentum", 3, "RESOURCE_EXHAUSTED", Reason.MODEL_FULL, 7 * MS)
    parts.statistics.rpc_began("/s/M")
    parts.statistics.rpc_ended("/s/M", "OK", 2 * MS)
    parts.changes.refused("momentum", "answers")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=parts.text(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
