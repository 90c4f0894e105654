"""The command `model-export`, run as a person runs it."""

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner, Result

from inference_server.core.contract import METADATA_KEY, Contract
from model_export.cli import app

ROWS = np.random.default_rng(0).random((60, 2))
LABELS = (ROWS[:, 0] > 0.5).astype(int)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    joblib.dump(LogisticRegression().fit(ROWS, LABELS), tmp_path / "fitted.joblib")
    header = "speed,drift\n"
    (tmp_path / "train.csv").write_text(header + "".join(f"{a},{b}\n" for a, b in ROWS))
    np.save(tmp_path / "train.npy", ROWS)
    return tmp_path


def run(folder: Path, *flags: str, file: str = "fitted.joblib", samples: str = "train.csv") -> Result:
    command = [str(folder / file), "--models", str(folder / "models"), "--samples", str(folder / samples)]
    return CliRunner().invoke(app, [*command, "--name", "m", *flags])


def contract_of(path: Path) -> Contract:
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return Contract.from_json(texts[METADATA_KEY])


def test_export_by_command(folder: Path) -> None:
    """One command writes the file with every flag in its contract, and says what was compared."""
    flags = ["--model-version", "3", "--window", "20", "--no-includes-current-tick", "--layout", "versions"]
    times = ["--trained-at", "2024-08-09T12:00:00+00:00"]
    result = run(folder, *flags, *times, "--meaning", "1=BUY", "--meaning", "0=SELL")
    assert result.exit_code == 0
    contract = contract_of(folder / "models" / "m" / "3" / "model.onnx")
    assert contract.feature_names == ("speed", "drift")
    assert (contract.version, contract.window, contract.includes_current_tick) == (3, 20, False)
    assert contract.outputs[0].meanings == ("SELL", "BUY")
    assert contract.trained_at_ns == 1_723_204_800_000_000_000
    for text in ("LogisticRegression", "1 = BUY", "60 samples", contract.hash):
        assert text in result.stdout


def test_features_name_the_columns_of_an_array(folder: Path) -> None:
    """A .npy has no names: --features gives them; without, the line says so."""
    assert run(folder, "--features", "a,b", samples="train.npy").exit_code == 0
    assert contract_of(folder / "models" / "m.onnx").feature_names == ("a", "b")
    result = run(folder, samples="train.npy")
    assert result.exit_code == 2
    assert "fitted without names" in result.stderr


def test_training_time_defaults_to_that_of_the_file(folder: Path) -> None:
    """Without --trained-at the file's own time counts, so that the same file gives the same bytes."""
    run(folder)
    first = (folder / "models" / "m.onnx").read_bytes()
    run(folder)
    assert (folder / "models" / "m.onnx").read_bytes() == first
    seconds = int((folder / "fitted.joblib").stat().st_mtime)
    assert contract_of(folder / "models" / "m.onnx").trained_at_ns == seconds * 1_000_000_000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--meaning", "BUY"], "--meaning 'BUY': expected CLASS=BUY"),
        (["--trained-at", "noon"], "--trained-at 'noon': expected an ISO time"),
        (["--features", "speed,volume"], "line 1: no column 'volume'; it has speed, drift"),
        (["--model-version", "0"], "version: expected an integer from 1 to"),
        (["--seed", "-1"], "seed: expected an integer from 0 to"),
        (["--meaning", "1=BUY", "--meaning", "1=SELL"], "the class '1' has a meaning already"),
        (["--name", "a/b"], "model name 'a/b'"),
    ],
)
def test_bad_flags(flags: list[str], message: str, folder: Path) -> None:
    """A wrong flag is one line that names it, exit 2, and nothing is written."""
    result = run(folder, *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a file written by joblib.dump"),
        (b"text", "joblib.dump"),
        (b"\x80\x04K\x01)\x81.", "joblib.dump"),
        (None, "No such file"),
    ],
    ids=["empty", "text", "damaged", "missing"],
)
def test_file_that_is_no_joblib(content: bytes | None, message: str, folder: Path) -> None:
    """A file that joblib cannot load is named in one line, exit 2."""
    if content is not None:
        (folder / "other.joblib").write_bytes(content)
    result = run(folder, file="other.joblib")
    assert result.exit_code == 2
    assert "other.joblib" in result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_estimator_of_another_version_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimator that another scikit-learn saved may answer otherwise: refused, with its version."""
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "1.4.0")
        joblib.dump(LogisticRegression().fit(ROWS, LABELS), folder / "old.joblib")
    result = run(folder, file="old.joblib")
    assert result.exit_code == 2
    assert "saved by scikit-learn 1.4.0" in result.stderr
    assert not (folder / "models").exists()


def test_refusal_shows_the_rows(folder: Path) -> None:
    """A model that does not answer alike is refused with its worst rows by feature name, exit 2."""
    random = np.random.default_rng(0)
    grid = random.integers(0, 4, size=(400, 2)).astype(float)
    joblib.dump(KNeighborsClassifier().fit(grid, random.integers(0, 2, size=400)), folder / "ties.joblib")
    np.save(folder / "grid.npy", grid)
    result = run(folder, "--features", "a,b", file="ties.joblib", samples="grid.npy")
    assert result.exit_code == 2
    assert "differs from the estimator on" in result.stderr
    assert "row (a=" in result.stderr
    assert not (folder / "models").exists()


def test_entry_point(folder: Path) -> None:
    """The module's `main` is the command: exit 2 and one line for a file that is not there."""
    script = "from model_export.cli import main; main()"
    arguments = ["gone.joblib", "--name", "m", "--models", "models", "--samples", "train.csv"]
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr == "model-export: gone.joblib: No such file or directory\n"
