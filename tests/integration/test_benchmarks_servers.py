"""Short runs of the measurements beside other servers: the harness works, and tells of absent peers."""

import asyncio
import subprocess
import sys

import benchmark_path
import changed_sidecar
import measure_load
import measure_one_row
import numpy as np
import pytest
import server_variants
import tritonclient.grpc as triton
import v2_servers
from bench import Effort
from fetched import CannotRunError
from perf_analyzer import perf_analyzer
from v2_servers import INPUT, MODEL, PEERS, WIDTH, Server, echo_of, ours, running

from inference_server.serving.data_plane import Answer, Call, DataPlane

pytestmark = pytest.mark.slow  # each starts servers as their users do

SHORT = Effort(1, short=True)
# Has a child of its own burn two tenths of a second, says so, and stays with it.
PARENT = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.2: pass\\nprint('done', flush=True)\\ninput()"
with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE) as child:
    sys.stdin.readline()
    child.communicate(b"\\n")
"""


@pytest.fixture
def no_peers(monkeypatch, tmp_path):
    """No peer is installed."""
    monkeypatch.setattr(v2_servers, "ENVIRONMENTS", tmp_path)


def answer_of(server):
    """Return what a server answers to one row."""
    with triton.InferenceServerClient(server.address) as client:
        row = triton.InferInput(INPUT, [1, WIDTH], "FP32")
        row.set_data_from_numpy(np.full((1, WIDTH), 1e-4, dtype=np.float32))
        return client.infer(MODEL, [row], request_id="mine", client_timeout=60.0)


def test_one_row_is_measured_beside_an_echo(no_peers):
    """Ours stands beside a bare echo, with its bound, and every peer that is absent says how to get it."""
    assert benchmark_path.BENCHMARKS.is_dir()
    finding = measure_one_row.measure(SHORT)
    first, _ = finding.lines
    assert first.bound == 1.2
    assert all(line.series.median > 0 and line.ratio.median > 0 for line in finding.lines)
    assert finding.notes == [f"{peer} is not measured: `make peers` installs it" for peer in PEERS]


def test_the_load_is_measured_beside_an_echo(no_peers):
    """Ours stands beside the echo at each load, and in processor time a request at the one that is asked."""
    try:
        perf_analyzer()
    except CannotRunError as error:
        pytest.skip(str(error))
    finding = measure_load.measure(SHORT)
    one, eight, cost = finding.lines
    assert (one.bound, eight.bound, cost.bound) == (None, 0.9, None)
    assert [line.series.unit for line in finding.lines] == ["/s", "/s", "us"]
    assert all(line.series.median > 0 and line.ratio.median > 0 for line in finding.lines)


def test_without_the_generator_no_load_is_measured(monkeypatch):
    """The finding says why there is nothing."""

    def nothing():
        raise CannotRunError("there is none")

    monkeypatch.setattr(measure_load, "perf_analyzer", nothing)
    assert measure_load.measure(SHORT).skipped == "there is none"


def test_each_change_is_measured_beside_the_server_as_it_is():
    """Each has a rate and a cost, and answers as the server does."""
    try:
        perf_analyzer()
    except CannotRunError as error:
        pytest.skip(str(error))
    finding = server_variants.measure(1, [8], short=True)
    names = [line.name.rpartition(": ")[2] for line in finding.lines]
    assert {"batched", "two processes on one port"} <= set(names)
    assert all(line.series.median > 0 and line.ratio.median > 0 for line in finding.lines)


def test_calls_that_are_run_together_get_each_its_own_answer(monkeypatch):
    """Calls of one turn of the loop are one run, and each caller has the part that is of his rows."""
    runs = []

    async def double(_plane, calls, _deadline_ns):
        [call] = calls
        runs.append(len(call.inputs[INPUT]))
        return [Answer(None, None, (), [call.inputs[INPUT] * 2], len(call.inputs[INPUT]), 0, 0)]

    async def ask_at_once():
        rows = [np.full((count, WIDTH), float(count)) for count in (1, 2, 3)]
        calls = [[Call(MODEL, {INPUT: each})] for each in rows]
        told = await asyncio.gather(*(DataPlane.answer(None, call, None) for call in calls))
        return [(answer.rows, answer.arrays[0].tolist()) for [answer] in told], rows

    monkeypatch.setattr(DataPlane, "answer", DataPlane.answer)  # so that it is put back
    monkeypatch.setattr(changed_sidecar, "answer_alone", double)
    changed_sidecar.batch()
    told, rows = asyncio.run(ask_at_once())
    assert runs == [6]
    assert told == [(len(each), (each * 2).tolist()) for each in rows]


def test_the_echo_sends_our_messages():
    """Its answer has the names, types, shapes and parameters of ours, and the caller's id."""
    with ours() as sidecar, echo_of(sidecar) as echo:
        answers = [answer_of(server).get_response() for server in (sidecar, echo)]
    own, echoed = answers
    assert [(each.name, each.datatype, each.shape) for each in own.outputs] == [
        (each.name, each.datatype, each.shape) for each in echoed.outputs
    ]
    assert sorted(own.parameters) == sorted(echoed.parameters)
    assert own.id == echoed.id == "mine"
    assert own.ByteSize() == echoed.ByteSize()


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_a_peer_serves_the_same_model(peer):
    """Its probabilities are ours."""
    if peer.missing:
        pytest.skip(peer.missing)
    with ours() as sidecar, running(peer) as server:
        own, theirs = (answer_of(each).as_numpy("probabilities") for each in (sidecar, server))
    assert own.tolist() == theirs.tolist()


def test_processor_time_is_that_of_children_too():
    """What the child of a server takes is counted."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "done\n"
        try:
            assert Server("", parent.pid).cpu_us() >= 200_000
        finally:
            parent.communicate("\n")
    assert parent.returncode == 0
