"""`inference-server models`: what a model takes and means, and whether it answers its golden rows."""

from collections.abc import Iterator

import numpy as np
import pytest
from click.testing import Result
from onnx_files import score_contract, score_model
from servables import FunctionServable
from sidecars import ThreadSidecar, put, thread_sidecar
from typer.testing import CliRunner

from inference_server import command_line
from inference_server.core.contract import NanPolicy, OutputKind, OutputMeaning
from inference_server.core.golden import GoldenOutput, GoldenVectors
from inference_server.core.servable import Servable
from inference_server.core.tensor import Array, TensorSpec


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """A sidecar with `sums`, version 3, and `bare`, which has no contract."""
    models = tmp_path_factory.mktemp("models")
    contract = score_contract("sums", feature_names=("a", "b", "c"), nan_policy=NanPolicy.ACCEPT)
    put(models / "sums" / "3" / "model.onnx", score_model("sums", contract=contract))
    put(models / "bare.onnx", score_model(None))
    put(models / "off.onnx", score_model("off", bias=0.01, contract=score_contract("off")))
    with thread_sidecar(models) as running:
        yield running


def explained(sidecar: ThreadSidecar, *arguments: object) -> Result:
    """What `models` with these arguments says."""
    return CliRunner().invoke(
        command_line.app, ["models", *map(str, arguments), "--target", sidecar.unix], env={"COLUMNS": "80"}
    )


def publish(sidecar: ThreadSidecar, servable: Servable) -> None:
    """Let the sidecar serve this, whatever it answers."""

    async def add() -> None:
        sidecar.sidecar.registry.publish(servable, 1)

    sidecar.run(add())


def test_all_models_are_a_line_each(sidecar: ThreadSidecar) -> None:
    """Without a name it lists what each model takes and gives; one without a contract says so."""
    lines = [" ".join(line.split()) for line in explained(sidecar).stdout.splitlines()]
    assert lines[0] == "model version features outputs"
    assert "bare 1 no contract: features FP32[any, 3] score FP32[any, 1]" in lines
    assert "sums 3 a, b, c score" in lines


@pytest.mark.parametrize("which", ["", ":3"])
def test_a_model_is_explained(sidecar: ThreadSidecar, which: str) -> None:
    """Contract, provenance, training range and golden rows stand in words that need no schema."""
    shown = explained(sidecar, f"sums{which}").stdout
    text = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    for told in (
        "answers calls without a version",
        "estimator LinearRegression()",
        "trained 2013-09-01 01:46:40 UTC with numpy",
        "window 20 ticks of one instrument",
        "NaN taken: the model was trained with it",
        "# feature least in training most in training 1 a",
        "score value",
        "golden rows, answered by the estimator as it was fitted 0: a=",
        "score: may be off by 1e-05",
    ):
        assert told in text, told


def test_what_gets_calls_without_a_version_is_said_of_that_version_alone(sidecar: ThreadSidecar) -> None:
    """Of two versions side by side it is the default one, and the other answers nobody who names none."""
    for version in (1, 2):
        publish(sidecar, FunctionServable("beside", version, contract=None))
    said = ["calls without a version" in explained(sidecar, f"beside:{it}").stdout for it in (1, 2)]
    assert said == [False, True]


def test_classes_and_their_meaning_are_told(sidecar: ThreadSidecar) -> None:
    """What each class means stands beside it, and so it does in the answer to a single row."""
    publish(sidecar, classifier("sides", lambda rows: np.full((len(rows), 3), 1 / 3, np.float32)))
    text = " ".join(explained(sidecar, "sides").stdout.split())
    assert "p probabilities -1 is SELL, 0 means none of them, 1 is BUY" in text
    ran = CliRunner().invoke(command_line.app, ["predict", "sides", "1", "2", "3", "--target", sidecar.unix])
    assert "-1 SELL: 0.333333, 0: 0.333333, 1 BUY: 0.333333" in ran.stdout
    ran = CliRunner().invoke(
        command_line.app, ["predict", "sides", "--csv", "-", "--target", sidecar.unix], input="a,b,c\n1,2,3\n"
    )
    assert ran.stdout.splitlines()[0] == "p[-1],p[0],p[1],version,digest"


def test_a_model_without_a_contract_shows_its_signature(sidecar: ThreadSidecar) -> None:
    """Nothing is made up: names, datatypes and shapes are all there is, and nothing can be checked."""
    ran = explained(sidecar, "bare", "--check")
    text = " ".join(ran.stdout.split())
    assert "contract none: the sidecar serves what the file takes and gives" in text
    assert "input features FP32 [any, 3] output score FP32 [any, 1]" in text
    told = "inference-server: bare:1 has no contract, so that there are no golden rows to ask\n"
    assert (ran.exit_code, ran.stderr) == (1, told)


def test_golden_rows_are_asked_of_the_sidecar(sidecar: ThreadSidecar) -> None:
    """G1: --check asks what lies in the contract, and says that the answers fit."""
    ran = explained(sidecar, "sums:3", "--check")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "golden rows are answered within tolerance" in ran.stdout.splitlines()[-1]
    assert ran.stdout.splitlines()[-1].startswith("asked now: all ")


def test_a_model_that_answers_otherwise_fails_the_check(sidecar: ThreadSidecar) -> None:
    """G1: an answer beyond the tolerance is shown with the row, and the exit code is 1."""
    publish(
        sidecar, FunctionServable("drifted", function=lambda rows: rows.sum(axis=1, keepdims=True) + 0.01)
    )
    ran = explained(sidecar, "drifted", "--check")
    assert ran.exit_code == 1
    assert "asked now: not all of" in ran.stdout
    assert "golden row 0: output 'score' is" in ran.stdout


def test_what_is_not_served_cannot_be_explained(sidecar: ThreadSidecar) -> None:
    """An unknown name, version or label is one line with the nearest there is; a refused one says why."""
    for asked, told in (
        ("sum", "no model 'sum'; did you mean 'sums'?"),
        ("sums:4", "model 'sums' has no available version 4"),
        ("sums:blue", "model 'sums' has no label 'blue'; there are none"),
        ("off", "model 'off' has no available version: "),
        ("off:1", "model 'off' has no available version 1; it is at END: "),
    ):
        ran = explained(sidecar, asked)
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert ran.stderr.startswith(f"inference-server: {told}")
        assert ("golden row" in ran.stderr) == asked.startswith("off")
    assert explained(sidecar, "--check").exit_code == 2


def test_a_shell_completes_the_names_of_models(sidecar: ThreadSidecar) -> None:
    """TAB after `models` gives the running sidecar's models, and nothing at all where none can be asked."""

    def completed(words: str, target: str) -> list[str]:
        variables = {
            "_INFERENCE_SERVER_COMPLETE": "complete_bash",
            "COMP_WORDS": f"inference-server {words}",
            "COMP_CWORD": str(len(words.split(" "))),
            "TICKSERVE_TARGET": target,
        }
        ran = CliRunner().invoke(command_line.app, env=variables, prog_name="inference-server")
        assert (ran.exit_code, ran.stderr) == (0, "")
        return ran.stdout.split()

    begun = completed("models su", sidecar.unix)
    assert begun == ["sums"]
    assert {"sums", "bare"} <= set(completed("predict ", sidecar.unix))
    assert completed("rollback s", "unix:/nowhere.sock") == []
    assert completed("rollback s", "nonsense") == []


def classifier(name: str, function: object) -> FunctionServable:
    """A servable of three classes, of which the middle one means nothing."""
    rows = np.zeros((1, 3), np.float32)
    expected: Array = np.full((1, 3), 1 / 3, np.float32)
    contract = score_contract(
        name,
        outputs=(OutputMeaning("p", OutputKind.PROBABILITIES, ("-1", "0", "1"), ("SELL", "", "BUY")),),
        golden=GoldenVectors(rows, (GoldenOutput("p", expected, atol=1e-5, rtol=0.0),)),
    )
    servable = FunctionServable(name, function=function, contract=contract, outputs=("p",))
    servable.outputs = (TensorSpec("p", "FP32", (-1, 3)),)
    return servable
