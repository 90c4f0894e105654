"""Vetting: each step's reason, on real files; and the process that it runs in."""

import asyncio
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from manual_clock import ManualClock
from onnx import TensorProto, helper
from onnx_files import endless_model, make_model, score_contract, score_model, score_proto
from plain_models import constant_model
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from inference_server.adapters.checking import check_file, place_of
from inference_server.adapters.model_repository import FolderRepository
from inference_server.adapters.vetting import vet
from inference_server.adapters.vetting_process import VettingProcess, VettingProcessOptions
from inference_server.core.contract import METADATA_KEY, FeatureRange, OutputKind, OutputMeaning
from inference_server.core.golden import GoldenOutput, GoldenVectors

STEPS = ["parse", "self-contained", "operators", "load", "contract", "answers"]


def names(verdict):
    return [step.name for step in verdict.steps]


def changed_proto(change):
    model = score_proto()
    change(model)
    return model.SerializeToString()


def test_a_good_file_passes_every_step():
    """A file with its contract passes all six steps; contract and signature come with the verdict."""
    verdict = vet(score_model(), "momentum")
    assert verdict.refusal == ""
    assert names(verdict) == STEPS
    assert verdict.contract == score_contract()
    assert [str(spec) for spec in (*verdict.inputs, *verdict.outputs)] == [
        "features: FP32[?, 3]",
        "score: FP32[?, 1]",
    ]


def test_a_file_without_a_contract_is_served_as_plain_onnx():
    """No contract: it passes under any name, once it is seen to run, and is marked as unverified."""
    verdict = vet(score_model(None), "anything")
    assert verdict.refusal == ""
    assert verdict.contract is None
    assert "unverified" in verdict.steps[4].text


def test_a_file_without_inputs_is_told_so():
    """A model that takes nothing is good, and its signature says that."""
    verdict = vet(constant_model(), "anything")
    assert [step.text for step in verdict.steps if step.name == "load"] == ["nothing → known: FP32[2]"]


def test_every_truncation_is_refused():
    """C1: cut at each sixteenth of its length, a file is refused and never raises."""
    model = score_model()
    for part in range(16):
        verdict = vet(model[: len(model) * part // 16], "momentum")
        assert "cannot be read as ONNX" in verdict.refusal


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
def test_external_data_is_refused_wherever_it_hides(location, where):
    """C10: data beside, above or anywhere outside the file is refused before ONNX Runtime sees the file."""
    tensor = helper.make_tensor("outside", TensorProto.FLOAT, (1,), [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    inner = helper.make_node("Constant", [], ["constant"], value=tensor)

    def hide(model):
        if where == "initializer":
            model.graph.initializer.append(tensor)
        elif where == "attribute":
            model.graph.node.append(inner)
        else:
            branch = helper.make_graph([inner], "branch", [], [])
            model.graph.node.append(
                helper.make_node("If", ["go"], ["x"], then_branch=branch, else_branch=branch)
            )

    verdict = vet(changed_proto(hide), "momentum")
    assert verdict.refusal == "tensor 'outside' keeps its data in another file; a model is one file here"
    assert names(verdict) == STEPS[:2]


@pytest.mark.parametrize("domain", ["evil.ops", ""])
def test_no_name_in_a_file_makes_a_reason_of_its_length(domain):
    """C11: a name of a million letters is cut in the reason, and in the text of a step that passed."""

    def lengthen(model):
        model.graph.node[0].domain = domain
        model.graph.node[0].op_type = "x" * 10**6 if domain else "MatMul"
        model.graph.output[0].name = model.graph.node[1].output[0] = "y" * 10**6

    verdict = vet(changed_proto(lengthen), "momentum")
    assert bool(verdict.refusal) == bool(domain)
    assert max(len(step.text) for step in verdict.steps) == 2001


def test_operators_of_an_unknown_domain_are_refused():
    """C11: a custom operator is refused by name and domain, before ONNX Runtime looks for its library."""

    def customise(model):
        model.graph.node[0].domain = "evil.ops"

    verdict = vet(changed_proto(customise), "momentum")
    assert "operator 'MatMul' is of the domain 'evil.ops'" in verdict.refusal
    assert names(verdict) == STEPS[:3]


def test_functions_of_the_models_own_are_no_custom_operators():
    """A model-local function needs no library: its domain is its own business, its body is looked into."""
    body = helper.make_node("Add", ["x", "x"], ["y"])
    function = helper.make_function("own", "Twice", ["x"], ["y"], [body], [helper.make_opsetid("", 17)])

    def use(model):
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("own", 1))
        model.graph.node[1].output[0] = "once"
        model.graph.node.append(helper.make_node("Twice", ["once"], ["score"], domain="own"))

    assert vet(changed_proto(use), "m").refusal == ""
    body.domain = "evil.ops"
    function.node[0].CopyFrom(body)
    assert "operator 'Add' is of the domain 'evil.ops'" in vet(changed_proto(use), "m").refusal


def test_what_onnx_runtime_does_not_load_is_refused_with_its_reason():
    """A graph with an operator that does not exist parses, and is refused at loading without any path."""

    def misname(model):
        model.graph.node[0].op_type = "NoSuchOperator"

    verdict = vet(changed_proto(misname), "m")
    assert names(verdict) == STEPS[:4]
    assert verdict.refusal.startswith("ONNX Runtime does not load it:")
    assert "NoSuchOperator" in verdict.refusal
    assert "/" not in verdict.refusal


@pytest.fixture(scope="module")
def classifier():
    """A fitted classifier and its training rows."""
    rows = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
    return LogisticRegression().fit(rows, (rows.sum(axis=1) > 0).astype(int)), rows


def export(classifier, *, zipmap, contract=None):
    estimator, rows = classifier
    model = to_onnx(estimator, rows[:1], options={"zipmap": zipmap}, target_opset=17)
    if contract is not None:
        helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()


def classifier_contract(classifier, **changes):
    estimator, rows = classifier
    golden = GoldenVectors(
        rows[:50],
        (
            GoldenOutput("label", estimator.predict(rows[:50]), atol=0, rtol=0),
            GoldenOutput("probabilities", estimator.predict_proba(rows[:50]), atol=1e-5, rtol=0),
        ),
    )
    kinds = (("label", OutputKind.LABEL), ("probabilities", OutputKind.PROBABILITIES))
    fields = {
        "feature_names": ("a", "b"),
        "training_ranges": (FeatureRange(-1, 1),) * 2,
        "outputs": tuple(OutputMeaning(name, kind, ("0", "1"), ("SELL", "BUY")) for name, kind in kinds),
        "golden": golden,
    }
    return score_contract(**(fields | changes))


def test_a_scikit_learn_classifier_passes(classifier):
    """An exported classifier without zipmap answers its golden rows, labels and probabilities."""
    model = export(classifier, zipmap=False, contract=classifier_contract(classifier))
    verdict = vet(model, "momentum")
    assert verdict.refusal == ""
    assert "50 golden rows" in verdict.steps[-1].text


def test_zipmap_is_refused_with_its_remedy(classifier):
    """A classifier exported with zipmap answers maps, which no client reads: refused, and told what to do."""
    verdict = vet(export(classifier, zipmap=True), "m")
    assert "seq(map(int64,tensor(float)))" in verdict.refusal
    assert "without zipmap" in verdict.refusal


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        ({"model": "breakout"}, "it is for the model 'breakout', the file's place says 'momentum'"),
        (
            {"outputs": (OutputMeaning("score", OutputKind.LABEL, ("0",), ("BUY",)),)},
            "a label is INT64 or INT32 or BYTES, the file has score: FP32[?, 1]",
        ),
        (
            {"outputs": (OutputMeaning("score", OutputKind.PROBABILITIES, ("0", "1"), ("SELL", "BUY")),)},
            "output 'score' names 2 classes, the file has score: FP32[?, 1]",
        ),
        (
            {
                "outputs": (OutputMeaning("other", OutputKind.VALUE),),
                "golden": GoldenVectors(
                    np.ones((1, 3), np.float32), (GoldenOutput("other", np.ones((1, 1)), atol=0, rtol=0),)
                ),
            },
            "no output 'other'; the file has 'score'",
        ),
        (
            {
                "feature_names": ("a", "b"),
                "training_ranges": (FeatureRange(0, 1),) * 2,
                "golden": GoldenVectors(
                    np.ones((1, 2), np.float32), (GoldenOutput("score", np.ones((1, 1)), atol=0, rtol=0),)
                ),
            },
            "it names 2 features, the file takes features: FP32[?, 3]",
        ),
        (
            {
                "golden": GoldenVectors(
                    np.ones((1, 3), np.float32), (GoldenOutput("score", np.ones((1, 2)), atol=0, rtol=0),)
                )
            },
            "has shape (1, 1) on the golden rows, expected (1, 2)",
        ),
    ],
)
def test_a_contract_that_does_not_fit_the_file_is_refused(contract, reason):
    """C4: each disagreement between contract, signature and place has its own reason."""
    verdict = vet(score_model(contract=score_contract(**contract)), "momentum")
    assert reason in verdict.refusal


def test_a_contract_that_cannot_be_read_is_refused():
    """A contract document that was tampered with is refused, and the reason names the field."""
    model = onnx.load_model_from_string(score_model())
    document = score_contract().to_json().replace('"window":20', '"window":21')
    helper.set_model_props(model, {METADATA_KEY: document})
    assert vet(model.SerializeToString(), "momentum").refusal.startswith("contract: hash:")


@pytest.mark.parametrize("axis", [0, 1])
def test_a_contract_needs_an_input_of_any_number_of_float32_rows(axis):
    """C4: a fixed number of rows, or another dtype, is refused where there is a contract."""

    def change(model):
        tensor = model.graph.input[0].type.tensor_type
        if axis == 0:
            tensor.shape.dim[0].dim_value = 1
        else:
            tensor.elem_type = TensorProto.DOUBLE
            model.graph.node.insert(0, helper.make_node("Cast", ["features"], ["cast"], to=TensorProto.FLOAT))
            model.graph.node[1].input[0] = "cast"
        helper.set_model_props(model, {METADATA_KEY: score_contract().to_json()})

    assert (
        "expected one float32 input of [any number of rows, 3 features]"
        in vet(changed_proto(change), "momentum").refusal
    )


def test_one_wrong_golden_answer_is_refused_and_its_row_shown():
    """C5: off by 0.01 on one golden row of many is refused; the reason shows row, value and error."""
    contract = score_contract()
    expected = contract.golden.outputs[0].expected.copy()
    expected[2] += 0.01
    golden = GoldenVectors(contract.golden.inputs, (GoldenOutput("score", expected, atol=1e-3, rtol=0),))
    verdict = vet(score_model(contract=score_contract(golden=golden)), "momentum")
    assert "golden row 2: output 'score' is 3.5, the estimator answered 3.51 (off by 0.01)" in verdict.refusal


def test_a_model_that_cannot_run_is_refused():
    """A file that loads and fails in every run is refused in vetting, not found out by a caller."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["features", "index"], ["score"], axis=1),
        ],
        "gather",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("index", TensorProto.INT64, (1,), [9])],
    )
    verdict = vet(make_model(graph).SerializeToString(), "m")
    assert verdict.refusal.startswith("it does not run: ")
    assert "out of" in verdict.refusal
    assert "/" not in verdict.refusal


# The process.


def in_process(scenario, options=None, **child):
    """Run a scenario with a vetting process, and end it."""

    async def whole():
        vetting = VettingProcess(options, **child)
        try:
            await asyncio.wait_for(scenario(vetting), 250)
        finally:
            await vetting.close()
        assert vetting.pid is None

    asyncio.run(whole())


def test_the_process_says_what_the_function_says():
    """One warm child judges one file after another, and its verdicts are those of `vet`."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        for model in (score_model(), score_model(None), score_model(bias=1, contract=score_contract()), b"x"):
            there, here = await vetting.vet(model, "momentum"), vet(model, "momentum")
            assert replace(there, memory_bytes=0) == replace(here, memory_bytes=0)
        assert vetting.pid == pid

    in_process(scenario)


def test_a_file_that_hangs_is_ended_in_time_and_the_next_one_is_vetted():
    """C9: a file whose run does not end is a verdict with a reason; the child is replaced."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        verdict = await vetting.vet(endless_model(), "m")
        assert verdict.refusal == "vetting took more than 0.5 s of processor time and was ended"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario, VettingProcessOptions(cpu_s=0.5))


CRASHING = """
import os, signal
from inference_server.adapters import vetting_child
judge = vetting_child.vet
def crash(model, name, memory_bytes=None):
    if name == "crash":
        signal.raise_signal(signal.SIGSEGV)
    if name == "leave":
        os._exit(3)
    if name == "real-time":
        os.kill(os.getpid(), signal.SIGRTMIN + 3)
    if name == "print":
        os.write(1, b"a library that prints")
    return None if name == "babble" else judge(model, name, memory_bytes)
vetting_child.vet = crash
write = vetting_child.write_verdict
vetting_child.write_verdict = lambda verdict: write(verdict) if verdict else b"{}"
vetting_child.main()
"""


def test_a_file_that_kills_its_judge_is_a_verdict():
    """C9: a child that dies of a signal, ends, or answers nonsense on a file is a reason, and is replaced."""

    async def scenario(vetting):
        verdict = await vetting.vet(score_model(None), "crash")
        assert verdict.refusal == "the vetting process was killed by SIGSEGV while it judged this file"
        verdict = await vetting.vet(score_model(None), "leave")
        assert verdict.refusal == "the vetting process ended with exit code 3 while it judged this file"
        verdict = await vetting.vet(score_model(None), "babble")
        assert verdict.refusal == "the vetting process gave an answer that cannot be read"
        verdict = await vetting.vet(score_model(None), "real-time")
        number = signal.SIGRTMIN + 3
        assert (
            verdict.refusal == f"the vetting process was killed by signal {number} while it judged this file"
        )
        assert (await vetting.vet(score_model(None), "print")).refusal == "", "printing is harmless"

    in_process(scenario, child=(sys.executable, "-c", CRASHING))


def test_a_judge_that_was_killed_between_two_files_costs_no_file_its_verdict():
    """C9: a child that died for another reason is replaced, and the file is judged all the same."""

    async def scenario(vetting):
        await vetting.start()
        os.kill(vetting.pid, signal.SIGKILL)
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario)


def test_a_cancelled_vetting_ends_its_child():
    """E4: whoever cancels a vetting leaves no child at work, and the next file is vetted by another."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        judging = asyncio.create_task(vetting.vet(endless_model(), "m"))
        await asyncio.wait([judging], timeout=0.1)
        judging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await judging
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario)


def test_a_child_that_cannot_be_started_is_a_verdict():
    """C9: without a vetting process no file is let through, and the server goes on."""

    async def scenario(vetting):
        assert "could not be started" in (await vetting.vet(score_model(), "momentum")).refusal

    in_process(scenario, child=("/nonexistent/python",))


# By hand.


def test_check_says_what_serve_would_say_and_names_contract_changes(tmp_path):
    """`check` vets by the file's place, and compares the contracts of the two files."""
    new, old = tmp_path / "momentum.onnx", tmp_path / "momentum" / "7" / "model.onnx"
    old.parent.mkdir(parents=True)
    old.write_bytes(score_model())
    new.write_bytes(score_model(contract=score_contract(window=30)))
    assert check_file(old).refusal == ""
    refused = check_file(new, old)
    assert refused.refusal == (
        f"its contract is not that of {old}, which it would replace: features.window: 20 before, 30 now"
    )
    verdict = check_file(new, old, allow_contract_change=True)
    assert verdict.refusal == ""
    assert refused.changes == verdict.changes == ("features.window: 20 before, 30 now",)
    assert check_file(old, old).steps[-1].text == "the contract is the same"
    new.write_bytes(score_model(bias=0.01, contract=score_contract()))
    assert "golden row" in check_file(new, old).refusal
    assert check_file(tmp_path / "absent.onnx").refusal == "is not there"


def test_check_refuses_a_file_in_the_words_of_the_repository(tmp_path):
    """What the repository takes for no file of a model, `check` refuses for the same reason, and at once."""
    os.mkfifo(tmp_path / "pipe.onnx")
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "dangling.onnx").symlink_to("nowhere")
    (tmp_path / "cut.onnx").write_bytes(score_model("cut")[:-100])
    (tmp_path / "my cut.onnx").write_bytes(score_model("cut"))
    (tmp_path / "below.onnx").write_bytes(score_model("below", model_version=-1))
    for name in ("pipe", "sparse", "dangling", "cut", "my cut", "below"):
        refusal = check_file(tmp_path / f"{name}.onnx").refusal
        clock = ManualClock()
        repository = FolderRepository(tmp_path, clock)
        for _ in range(3):
            problems = repository.scan().problems
            clock.advance(3.0)
        assert refusal, name
        assert refusal in problems.get(name, problems.get(repr(name), ()))[0]


def test_name_and_version_come_from_the_place(tmp_path):
    """Both layouts: the file's own name, or its model's folder and its version's."""
    assert place_of(tmp_path / "a" / "momentum.onnx") == ("momentum", None)
    assert place_of(tmp_path / "momentum" / "3" / "model.onnx") == ("momentum", 3)
    assert place_of(tmp_path / "momentum" / "x" / "model.onnx") == ("model", None)
