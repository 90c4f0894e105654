"""Clients that others wrote: nghttp2's two, and the one that Node programs use.

grpcio, tritonclient and perf_analyzer are asked in tests/integration/sidecar/.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fetched import CannotRunError
from h2_served import Served, question
from node_packages import GRPC_JS, node_packages
from sidecars import eventually
from wire_caller import PREDICT, framed

SCRIPT = Path(__file__).with_name("grpc_js_caller.js")
PROTOS = Path(__file__).parents[3] / "proto"
RUN_S = 100.0
HEADERS = ("--header", "te: trailers", "--header", "content-type: application/grpc")


def run_tool(name: str, *arguments: str) -> bytes:
    """Run a program of nghttp2's and return what it says; a skip where it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}: it is in Debian's nghttp2-client")
    done = subprocess.run([name, *HEADERS, *arguments], capture_output=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A file of one framed question."""
    file = tmp_path / "body"
    file.write_bytes(framed(question()))
    return file


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--padding=200",),
        ("--continuation",),
        ("--window-bits=1", "--connection-window-bits=1"),
        ("--no-dep", "--header-table-size=0"),
        ("--multiply=50",),
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_nghttp_is_answered(served: Served, body: Path, options: tuple[str, ...]) -> None:
    """Padded, in CONTINUATION frames, with windows of a byte, without a header table, many at once."""
    said = run_tool(
        "nghttp", "--verbose", f"--data={body}", *options, f"http://{served.sidecar.tcp}{PREDICT}"
    )
    times = 50 if "--multiply=50" in options else 1
    code = 8 if "--continuation" in options else 0  # by so many headers that they are refused
    assert said.count(b" grpc-status: %d" % code) == times
    assert b"RST_STREAM" not in said
    assert b"INVALID" not in said


@pytest.mark.parametrize("target", ["tcp", "unix"])
@pytest.mark.parametrize("options", [(), ("--window-bits=4", "--connection-window-bits=8")])
def test_every_request_of_h2load_succeeds(
    served: Served, body: Path, target: str, options: tuple[str, ...]
) -> None:
    """Eight connections, a hundred streams on each, also with windows smaller than an answer."""
    before = served.ended("Predict", "OK")
    where = getattr(served.sidecar, target)
    uri = [f"http://{where}{PREDICT}"]
    if target == "unix":
        uri = [f"--base-uri={where}", f"http://localhost{PREDICT}"]
    said = run_tool("h2load", "-n4000", "-c8", "-m100", f"--data={body}", *options, *uri).decode()
    assert re.search(r"4000 succeeded, 0 failed, 0 errored, 0 timeout", said), said
    assert served.ended("Predict", "OK") == before + 4000


@pytest.fixture(scope="module")
def grpc_js() -> Path:
    """The folder with the packages, or a skip that says why there is none."""
    try:
        return node_packages("grpc-js", GRPC_JS)
    except CannotRunError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["tcp", "unix"])
def by_node(served: Served, grpc_js: Path, request: pytest.FixtureRequest) -> Any:
    """Let the Node client do one thing, and return what it says came of it."""

    def ask(scenario: str) -> Any:
        target = getattr(served.sidecar, request.param)
        command = ["node", str(SCRIPT), target, str(PROTOS), scenario]
        done = subprocess.run(
            command, cwd=grpc_js, capture_output=True, text=True, timeout=RUN_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_node_is_answered(by_node: Any) -> None:
    """One call, two hundred at once, compressed ones, and one of ten megabytes."""
    assert by_node("unary") == [6.0] * 3
    assert by_node("many") == [6.0] * 200
    assert by_node("compressed") == [6.0] * 2
    assert by_node("large") == {"rows": 900_000, "wrong": 0}


def test_node_streams_both_ways(by_node: Any) -> None:
    """Every question of a stream gets its answer, and the stream ends well."""
    said = by_node("stream")
    assert (said["code"], sorted(map(int, said["ids"]))) == (0, list(range(500)))


def test_node_gives_up(served: Served, by_node: Any) -> None:
    """At its deadline or by its own will: what it asked for is given up here, and counted."""
    before = served.ended("Predict", "CANCELLED"), served.ended("PredictStream", "CANCELLED")
    assert by_node("deadline")["code"] == 4
    assert by_node("cancel") == [1, 1]
    eventually(lambda: served.sidecar.sidecar.data_plane.calls_in_flight == 0, "nothing runs any more")
    eventually(lambda: served.ended("Predict", "CANCELLED") > before[0], "the call is counted")
    eventually(lambda: served.ended("PredictStream", "CANCELLED") > before[1], "the stream is counted")


def test_node_is_told_what_is_wrong(by_node: Any) -> None:
    """Metadata are taken, and the text of a status arrives in whatever letters."""
    assert by_node("metadata") == [6.0]
    unknown, good = by_node("details")
    assert unknown["code"] == 5
    assert "Modèle 100 % \N{CHART WITH UPWARDS TREND}" in unknown["details"]
    assert good["name"] == "tickserve"
