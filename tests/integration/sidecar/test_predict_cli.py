"""`inference-server predict`: by position, by name and by CSV, with a real sidecar."""

import csv
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from onnx_files import score_contract, score_model
from sidecars import ThreadSidecar, eventually, put, thread_sidecar
from typer.testing import CliRunner

from inference_server import command_line
from inference_server.commands.predict import MAX_ROWS
from inference_server.serving.settings import ModelSettings


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """A sidecar with `sums`, which adds its features a, b and c, and `bare`, which has no contract."""
    models = tmp_path_factory.mktemp("models")
    contract = score_contract("sums", feature_names=("a", "b", "c"))
    put(models / "sums.onnx", score_model("sums", contract=contract))
    put(models / "bare.onnx", score_model(None))
    with thread_sidecar(models) as running:
        running.digest = running.sidecar.registry.resolve("sums").servable.digest
        yield running


def predict(sidecar: ThreadSidecar, *arguments: object, stdin: str | None = None) -> Result:
    """Run `inference-server predict` with these arguments."""
    return CliRunner().invoke(
        command_line.app,
        ["predict", *map(str, arguments)],
        input=stdin,
        env={"TICKSERVE_TARGET": sidecar.unix},
        catch_exceptions=False,
    )


def answered(sidecar: ThreadSidecar, *arguments: object, stdin: str | None = None) -> list[list[str]]:
    """The lines of CSV that come of a command that succeeds."""
    done = predict(sidecar, *arguments, stdin=stdin)
    assert (done.exit_code, done.stderr) == (0, "")
    return list(csv.reader(io.StringIO(done.stdout)))


def test_values_are_taken_by_name(sidecar: ThreadSidecar) -> None:
    """The order of NAME=VALUE does not matter, since the contract knows the names."""
    done = predict(sidecar, "sums", "c=100", "a=-1", "b=10")
    assert (done.exit_code, done.stdout.split()[-3:]) == (0, ["score", "FP32", "109"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["sums", "a=1", "b=2", "d=3"], 2, "d: no such feature; there are 'a', 'b', 'c'"),
        (["sums", "a=1", "b=2"], 2, "missing: c"),
        (["sums", "1", "x", "3"], 2, "value 2: expected a number, came 'x'"),
        (["sums", "--cvs", "rows.csv"], 2, "no such option: --cvs"),
        (["sum", "a=1"], 1, "no model 'sum'; did you mean 'sums'?"),
        (["sums:7", "a=1"], 1, "model 'sums' has no available version 7"),
        (["sums:blue", "a=1"], 1, "model 'sums' has no label 'blue'; there are none"),
        (["bare", "a=1"], 1, "bare:1 has no contract, so that its features have no names"),
        (["bare", "--csv", "-"], 1, "bare:1 has no contract, so that its features have no names"),
        (["sums"], 2, "expected values, or --csv FILE"),
        (["sums", "1", "--csv", "-"], 2, "expected values or --csv, not both"),
        (["sums", "1", "2", "3", "--keep", "x"], 2, "--keep and --out go with --csv"),
        (["sums", "--csv", "/no/such.csv"], 1, "/no/such.csv: No such file or directory"),
        (["sums", "--csv", "-", "--out", "/no/such/folder.csv"], 1, "/no/such/folder.csv: No such file"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(
    sidecar: ThreadSidecar, arguments: list[str], code: int, told: str
) -> None:
    """D1: wrong usage ends with 2, what the sidecar or the files have not with 1; never a traceback."""
    done = predict(sidecar, *arguments, stdin="a,b,c\n1,2,3\n")
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr


def test_a_table_is_answered_row_by_row(sidecar: ThreadSidecar) -> None:
    """From stdin to stdout: the kept columns, the outputs, and which bytes answered, in the rows' order."""
    lines = answered(
        sidecar, "sums", "--csv", "-", "--keep", "when", stdin="b,when,c,a\n10,t0,100,1\n.1,t1,0,0\n"
    )
    assert lines == [
        ["when", "score", "version", "digest"],
        ["t0", "111.0", "1", sidecar.digest],
        ["t1", "0.1", "1", sidecar.digest],
    ]


def test_a_large_table_needs_few_requests_and_loses_no_row(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """Rows go in batches; the file of answers has a line for each, and stands there only when it is whole."""
    values = np.random.default_rng(0).normal(size=(3 * MAX_ROWS + 1, 3)).astype(np.float32)
    source, out = tmp_path / "rows.csv", tmp_path / "answers.csv"
    source.write_text("a,b,c\n" + "".join(f"{','.join(map(str, row))}\n" for row in values))
    done = predict(sidecar, "sums", "--csv", source, "--out", out)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{out}: {len(values)} rows answered by sums\n"
    scores = np.array([line[0] for line in csv.reader(out.read_text().splitlines())][1:], dtype=np.float32)
    np.testing.assert_array_equal(scores, values @ np.ones(3, np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "rows.csv"]


def test_a_bad_line_ends_with_what_is_answered_before_it(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """On stdout the rows before it stand, and the error counts them; a file of answers is not begun."""
    source, out = tmp_path / "rows.csv", tmp_path / "answers.csv"
    source.write_text("a,b,c\n1,2,3\n4,5,6\n7,8\n")
    done = predict(sidecar, "sums", "--csv", source)
    assert done.exit_code == 1
    assert done.stdout.count("\n") == 3
    told = f"inference-server: {source}:4: expected 3 cells, came 2"
    assert done.stderr == f"{told} (2 rows before it are answered)\n"
    done = predict(sidecar, "sums", "--csv", source, "--out", out)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"{told} (nothing is written to {out})\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_progress_is_shown_on_a_terminal_alone(
    sidecar: ThreadSidecar, tmp_path: Path, variables: dict[str, str]
) -> None:
    """A bar stands on a terminal, without colours where NO_COLOR says so; the answers have none of it."""
    source = tmp_path / "rows.csv"
    source.write_text("a,b,c\n" + "1,2,3\n" * 10)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "inference_server", "predict", "sums", "--csv", str(source)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
            timeout=60,
            env={**os.environ, "TICKSERVE_TARGET": sidecar.unix, "TERM": "xterm"} | variables,
        )
        os.close(theirs)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert done.returncode == 0
    assert "10 rows" in shown
    assert bool(re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", shown)) == (not variables)
    assert b"\x1b" not in done.stdout
    assert done.stdout.count(b"\n") == 11


def test_what_reads_the_answers_may_stop(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """A pipe that is closed, as by head, ends the command without a traceback."""
    source = tmp_path / "rows.csv"
    source.write_text("a,b,c\n" + "1,2,3\n" * 20_000)
    with subprocess.Popen(
        [sys.executable, "-m", "inference_server", "predict", "sums", "--csv", str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TICKSERVE_TARGET": sidecar.unix},
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(60)


def test_a_table_is_answered_by_one_contract(tmp_path: Path) -> None:
    """B1: where a file of another contract takes over meanwhile, the rest of the table is refused."""
    put(tmp_path / "models" / "sums.onnx", score_model("sums"))
    settings = {"sums": ModelSettings(allow_contract_change=True)}
    with (
        thread_sidecar(tmp_path / "models", settings=settings) as running,
        subprocess.Popen(
            [sys.executable, "-m", "inference_server", "predict", "sums", "--csv", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TICKSERVE_TARGET": running.unix},
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        process.stdin.write("a,b,c\n" + "1,2,3\n" * MAX_ROWS)
        process.stdin.flush()
        assert process.stdout.readline() == "score,version,digest\n"
        contract = score_contract("sums", feature_names=("c", "b", "a"))
        put(tmp_path / "models" / "sums.onnx", score_model("sums", contract=contract))
        entry = running.sidecar.registry.resolve
        eventually(lambda: entry("sums").servable.contract == contract, "the other contract is served")
        _, told = process.communicate("1,2,3\n")
        assert process.returncode == 1
        assert "the contract asked for is" in told
        assert f"({MAX_ROWS} rows before it are answered)" in told


def test_an_interrupted_table_leaves_nothing_behind(sidecar: ThreadSidecar, tmp_path: Path) -> None:
    """E4: Ctrl-C in the middle of a table ends with 130 and no traceback; no half file stands there."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "inference_server", "predict", "sums"),
            *("--csv", "-", "--out", "answers.csv"),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TICKSERVE_TARGET": sidecar.unix},
    ) as process:
        eventually((tmp_path / ".answers.csv.part").exists, "it waits for rows")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told, list(tmp_path.iterdir())) == (130, b"", [])
