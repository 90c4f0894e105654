"""Short runs of the benchmarks: the harness works on a real sidecar, and sees what is wrong with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import benchmark_path
import numpy as np
import pytest
from client_processes import Asked, CrashingClients, client_processes
from expectation import Expectation, Known
from forests import expectation_of, make_forests, put
from onlooker import Onlooker
from process_size import Size
from sidecar_process import LogEvent, sidecar_process
from sidecars import eventually
from stress_client import KINDS
from stress_report import figures, wrongs
from swap_latency import MAX_ABOVE_LOAD_MS, STAGES, WAYS, measure, medians, missed
from swap_stress import REPLACED, VERSIONED, Stress, StressOptions

MODEL = "m"
LOOKS_HZ = 200.0
RATE_HZ = 50.0


@pytest.fixture(scope="module")
def forests(tmp_path_factory):
    """Two versions of a small forest."""
    return make_forests(tmp_path_factory.mktemp("forests"), MODEL, trees=3, versions=2)


@pytest.fixture(scope="module")
def sidecar(forests, tmp_path_factory):
    """A sidecar process that serves the first version."""
    models = tmp_path_factory.mktemp("models")
    put(models / f"{MODEL}.onnx", forests[0].release(0).content)
    with sidecar_process(models) as process:
        yield process


def lying(forests):
    """Return an expectation of other answers and other digests than the versions have."""
    return Expectation(
        {MODEL: [Known(forest.version, frozenset({"0" * 64}), forest.answers + 1) for forest in forests]}
    )


def looked(sidecar, expectation):
    """Let an onlooker look at everything a few times."""
    onlooker = Onlooker(sidecar.target, sidecar.http_address(), (MODEL,), expectation, LOOKS_HZ)
    with onlooker.looking():
        onlooker.wait_served(MODEL, 1, 60)
        eventually(lambda: min(onlooker.looks.values()) > 1 and len(onlooker.looks) == 8, "two looks at each")
    return onlooker


def test_an_onlooker_finds_nothing_wrong_with_a_good_sidecar(sidecar, forests):
    """B2: descriptions, metadata, index, readiness, probes and metrics are all asked, and all are right."""
    onlooker = looked(sidecar, expectation_of({MODEL: forests}, 1))
    assert (onlooker.failed, onlooker.faults) == (0, [])


def test_an_onlooker_sees_a_digest_that_belongs_to_no_version(sidecar, forests):
    """B2: a description and metadata with a digest of something else are faults."""
    onlooker = looked(sidecar, lying(forests))
    assert any(fault.startswith("DescribeModels: m: version 1 has the digest") for fault in onlooker.faults)
    assert any(fault.startswith("ModelMetadata: m: digest") for fault in onlooker.faults)


def test_clients_of_every_kind_check_what_they_get(sidecar, forests, tmp_path):
    """B1: each way to ask gives right answers; where other answers are expected, each is told as mixed."""
    for name, expectation in (("right", expectation_of({MODEL: forests}, 1)), ("lying", lying(forests))):
        expectation.write(tmp_path / name)
        asked = Asked(sidecar.target, (MODEL,), RATE_HZ, tmp_path / name)
        with client_processes(KINDS, asked) as clients:
            for client in clients:
                client.begin("on")
            looked(sidecar, expectation)  # which takes long enough for some calls
            phases = [client.end()["on"] for client in clients]
        assert all(phase["calls"] > 0 and phase["failed"] == 0 for phase in phases), phases
        assert [phase["mixed"] for phase in phases] == [
            phase["calls"] if name == "lying" else 0 for phase in phases
        ]


def test_clients_crash_and_the_sidecar_keeps_nothing_of_them(sidecar, forests, tmp_path):
    """B6: clients killed while they ask, streams open, leave no descriptor behind."""
    expectation_of({MODEL: forests}, 1).write(tmp_path / "facts")
    before = Size.of(sidecar.pid, 0)
    crashing = CrashingClients(KINDS, Asked(sidecar.target, (MODEL,), RATE_HZ, tmp_path / "facts"))
    with crashing.crashing():
        eventually(lambda: crashing.killed >= 2, "two clients were killed")
    eventually(
        lambda: Size.of(sidecar.pid, 0).descriptors <= before.descriptors, "their connections are closed"
    )


@pytest.mark.slow
def test_a_short_stress_run_finds_nothing_failed_or_mixed(tmp_path):
    """B1, B2, B5, B6: versions come and go in every way under load; nothing fails, nothing is mixed."""
    options = StressOptions(swaps=4, rounds=2, mix_swaps=6, warm_up_s=0.5, versions=4)
    came = Stress(tmp_path, options).run()
    kept = json.loads(json.dumps(figures(came)))
    assert wrongs(came) == []
    assert kept["swaps"] == 10
    assert kept["taken_ms"].keys() == {"renamed", "copied over", "added", "removed"}
    for kind in KINDS:
        for phase in ("idle", "swaps", "mix"):
            assert kept["clients"][f"{kind}, {phase}"]["calls"] > 0
    assert came.removed.outlived > 0
    assert set(came.onlooker.looks) >= {"DescribeModels", "ModelMetadata", "RepositoryIndex", "GET /metrics"}
    assert {REPLACED, VERSIONED} == set(came.onlooker._models)


def test_a_short_latency_run_gives_every_stage(tmp_path):
    """Every swap has a time for each stage, the answers are right, and the load time stands beside them."""
    swaps, faults = measure(3, 2, tmp_path)
    assert faults == []
    assert [swap.way for swap in swaps] == list(WAYS) * 2
    for swap in swaps:
        # The log's times are whole milliseconds.
        assert all(getattr(swap, stage) > -2 for stage in STAGES), swap
        assert swap.load_ms > 0
        assert swap.total_ms == pytest.approx(swap.above_load_ms + swap.load_ms)
    row = medians(swaps[:1])
    assert row["total_ms"] == pytest.approx(swaps[0].total_ms)
    assert missed([{**row, "above_load_ms": MAX_ABOVE_LOAD_MS}]) == []
    for bad in (MAX_ABOVE_LOAD_MS + 1, np.nan):
        assert len(missed([{**row, "above_load_ms": bad}])) == 1


def test_the_latency_script_prints_and_keeps_its_figures(tmp_path):
    """The script ends with 0 where nothing failed, and writes its figures as JSON."""
    out = tmp_path / "out" / "figures.json"
    ended = subprocess.run(
        [
            *(sys.executable, str(benchmark_path.BENCHMARKS / "swap_latency.py")),
            *("--swaps", "1", "--trees", "2", "--out", str(out)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "COLUMNS": "140"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert {row["way"] for row in kept["medians"]} == set(WAYS)
    assert "2 trees, renamed" in ended.stdout


def test_log_lines_are_read_as_events():
    """A line of a version's life gives its time, event, version and digest; other lines give none."""
    line = (
        "2026-11-20 10:00:00,250 INFO inference_server.serving.reconciler "
        "available model=m version=3 digest=0123456789ab warm_up_us=12.0"
    )
    event = LogEvent.parse(line)
    assert (event.event, event.model, event.version, event.digest) == ("available", "m", 3, "0123456789ab")
    assert event.at_s % 1 == pytest.approx(0.25)
    assert LogEvent.parse("Traceback (most recent call last):") is None
    assert LogEvent.parse(line.replace("INFO", "WARNING")) is None
