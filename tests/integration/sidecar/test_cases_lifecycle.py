"""Cases of the life cycle that need the whole sidecar: its process, its configuration, its clients."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_files import endless_model, score_contract, score_model
from sidecars import PATIENCE_S, describe, eventually, process_sidecar, put, stub, thread_sidecar
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

ROW = np.array([1, 2, 3], dtype=np.float32)


def nested(folder: Path, version: int, name: str = "momentum") -> Path:
    """Return a version's place."""
    return folder / name / str(version) / "model.onnx"


def ask(channel: grpc.Channel, model: str = "momentum", **which: object) -> tuple[int, float]:
    """Return who answers, and with which bias."""
    part = wire.PredictPart(model=model, rows=1, features=ROW.tobytes(), **which)
    answer = stub(channel, "Predict", wire.PredictResponse)(
        wire.PredictRequest(parts=[part]), timeout=PATIENCE_S
    )
    (result,) = answer.parts
    assert not result.HasField("status"), result.status.message
    return result.version, float(np.frombuffer(result.outputs[0].raw, "<f4")[0] - ROW.sum())


@contextmanager
def asked_all_the_time(target: str, threads: int = 4) -> Iterator[list[tuple[int, float]]]:
    """Ask in several threads until the block ends; a call that fails fails the test."""
    answers: list[tuple[int, float]] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def go_on_asking() -> None:
        with grpc.insecure_channel(target) as channel:
            try:
                while not stop.is_set():
                    answers.append(ask(channel))
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                failures.append(error)

    askers = [threading.Thread(target=go_on_asking) for _ in range(threads)]
    for asker in askers:
        asker.start()
    try:
        eventually(lambda: answers or failures, "the first answer")
        yield answers
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    if failures:
        raise failures[0]


def roll_back(channel: grpc.Channel) -> orders.RollbackResponse:
    """Roll the model back."""
    call = stub(channel, "/tickserve.v1.Control/Rollback", orders.RollbackResponse)
    return call(orders.RollbackRequest(model="momentum"), timeout=PATIENCE_S)


def states(channel: grpc.Channel) -> dict[int, str]:
    """Return the state of each version of the model."""
    (model,) = describe(channel).models
    return {one.version: wire.VersionDescription.State.Name(one.state) for one in model.versions}


def problem(channel: grpc.Channel, name: str) -> str:
    """Return what is said of a model."""
    return next(model.problem for model in describe(channel).models if model.name == name)


def test_only_the_configuration_changes(tmp_path: Path) -> None:
    """A11, A12: SIGHUP moves from latest to all to specific under load; no call fails; a bad file is told."""
    models, config = tmp_path / "models", tmp_path / "tickserve.toml"
    for version in (1, 2, 3):
        put(nested(models, version), score_model(bias=version))
    config.write_text("[model.momentum]\nversions = 'latest'\n")
    with (
        process_sidecar(models, "--config", str(config)) as sidecar,
        grpc.insecure_channel(sidecar.target) as channel,
    ):

        def reload(text: str) -> None:
            config.write_text(text)
            sidecar.process.send_signal(signal.SIGHUP)

        def serves(*versions: int) -> Callable[[], bool]:
            return lambda: states(channel) == dict.fromkeys(versions, "AVAILABLE")

        eventually(serves(3), "the latest")
        with asked_all_the_time(sidecar.target) as answers:
            reload("[model.momentum]\nversions = 'all'\n")
            eventually(serves(1, 2, 3), "all of them")
            reload("[model.momentum]\nversions = [1, 2]\nlabels = { stable = 1 }\n")
            eventually(serves(1, 2), "those named")
            assert ask(channel, label="stable") == (1, 1.0)
            eventually(lambda: answers[-1] == (2, 2.0), "the newest of them answers")
            reload("[model.momentum]\nversion = [3]\n")
            eventually(lambda: "nothing is changed" in sidecar.log.read_text(), "the mistake is told")
            assert "did you mean 'versions'" in sidecar.log.read_text()
            assert states(channel).keys() == {1, 2}
            before = len(answers)
            eventually(lambda: len(answers) > before, "it goes on answering")
        assert {version for version, _ in answers} == {2, 3}
        assert all(bias == version for version, bias in answers)


def test_a_contract_change_that_is_allowed_by_sighup_lets_the_refused_file_in(tmp_path: Path) -> None:
    """A12: what the reason of the refusal names, done in the configuration, is enough; no file is touched."""
    models, config = tmp_path / "models", tmp_path / "tickserve.toml"
    put(nested(models, 1), score_model(bias=1))
    config.write_text("[model.momentum]\n")
    with (
        process_sidecar(models, "--config", str(config)) as sidecar,
        grpc.insecure_channel(sidecar.target) as channel,
    ):
        put(nested(models, 2), score_model(bias=2, contract=score_contract(bias=2, window=30)))
        eventually(lambda: "allow-contract-change" in problem(channel, "momentum"), "the refusal")
        assert ask(channel) == (1, 1.0)
        config.write_text("[model.momentum]\nallow_contract_change = true\n")
        sidecar.process.send_signal(signal.SIGHUP)
        eventually(lambda: ask(channel) == (2, 2.0), "the refused file")
        assert problem(channel, "momentum") == ""


def test_a_rollback_after_a_way_back_by_files_goes_to_what_callers_got(tmp_path: Path) -> None:
    """A7: 3 is taken away, 2 answers, 4 comes: a rollback goes to 2 and its bytes, not to 3."""
    for version in (2, 3):
        put(nested(tmp_path, version), score_model(bias=version))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        assert ask(channel) == (3, 3.0)
        shutil.rmtree(tmp_path / "momentum" / "3")
        eventually(lambda: states(channel) == {2: "AVAILABLE"}, "the smaller number")
        put(nested(tmp_path, 4), score_model(bias=4))
        eventually(lambda: states(channel) == {4: "AVAILABLE"}, "the next good one")
        shutil.rmtree(tmp_path / "momentum" / "2")
        sidecar.settle()
        done = roll_back(channel)
        assert (done.from_version, done.to_version) == (4, 2)
        assert ask(channel) == (2, 2.0)


def test_folders_that_are_no_versions(tmp_path: Path) -> None:
    """A3: no integer, leading zeros, zero, negative or too large: told with what was expected, not served."""
    put(nested(tmp_path, 7), score_model(bias=7))
    for name in ("latest", "007", "0", "-3", "1.5", "9" * 20, "\u0661"):
        put(tmp_path / "momentum" / name / "model.onnx", score_model(bias=1))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        assert ask(channel) == (7, 7.0)
        assert states(channel) == {7: "AVAILABLE"}
        told = problem(channel, "momentum")
        for name in ("'latest'", "'007'", "'0'", "'-3'", "'1.5'", repr("9" * 20)):
            assert f"folder {name} is no version: expected an integer above 0" in told


def test_a_version_goes_and_is_at_once_put_back(tmp_path: Path) -> None:
    """A8, A10: removed, put back, renamed and duplicated under load: no call fails, the bytes stay right."""
    put(nested(tmp_path, 1), score_model(bias=1))
    put(nested(tmp_path, 2), score_model(bias=2))
    folder = tmp_path / "momentum"
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        with asked_all_the_time(sidecar.unix) as answers:
            for _ in range(5):
                (folder / "2").rename(folder / ".aside")
                (folder / ".aside").rename(folder / "2")
            sidecar.settle()
            assert ask(channel) == (2, 2.0)
            (folder / "2").rename(folder / "5")
            eventually(lambda: ask(channel) == (5, 2.0), "the new name")
            put(nested(tmp_path, 6), score_model(bias=2))
            eventually(lambda: ask(channel) == (6, 2.0), "the duplicate")
            eventually(lambda: states(channel) == {6: "AVAILABLE"}, "the others have gone")
        assert {version for version, _ in answers} <= {1, 2, 5, 6}


@pytest.mark.parametrize("kind", ["truncated", "wrong answers", "no contract", "another contract"])
def test_a_mended_file_is_served_whatever_was_wrong(tmp_path: Path, kind: str) -> None:
    """A6: after any kind of failure the next good file is served, with no restart."""
    bad = {
        "truncated": score_model(bias=2)[:-40],
        "wrong answers": score_model(bias=2, contract=score_contract(bias=2.01)),
        "no contract": score_model(name=None),
        "another contract": score_model(contract=score_contract(window=30)),
    }[kind]
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        put(tmp_path / "momentum.onnx", bad)
        eventually(lambda: problem(channel, "momentum"), "it is refused")
        assert ask(channel) == (1, 1.0)
        put(tmp_path / "momentum.onnx", score_model(bias=3))
        eventually(lambda: ask(channel) == (1, 3.0), "the mended one")
        assert problem(channel, "momentum") == ""


def test_a_model_beyond_the_bound_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    """A19: the refusal names the numbers; once memory is freed, the file is taken with no touch."""
    size_bytes = 24 * 2**20
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    put(tmp_path / "large.onnx", score_model("large", padding=size_bytes))
    with (
        thread_sidecar(tmp_path, max_memory_bytes=40 * 2**20) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        assert ask(channel, "large") == (1, 0.0)
        put(tmp_path / "momentum.onnx", score_model(bias=2, padding=size_bytes))
        eventually(lambda: "40.0 MiB" in problem(channel, "momentum"), "the bound is named")
        assert ask(channel) == (1, 1.0)
        put(tmp_path / "large.onnx", score_model("large", bias=5))
        eventually(lambda: ask(channel) == (1, 2.0), "there is room now")
        assert problem(channel, "momentum") == ""


def test_states_come_in_order_and_none_is_lost(tmp_path: Path) -> None:
    """A20: whoever looks at every change sees LOADING, AVAILABLE, UNLOADING, gone, in this order."""
    order = ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    seen: dict[int, list[str]] = {}
    with thread_sidecar(tmp_path) as sidecar:
        registry = sidecar.sidecar.registry

        async def look_at_every_change(until: int) -> None:
            revision = -1
            while True:
                revision = await registry.wait_changed(revision)
                for model in registry.describe(["momentum"]):
                    for version in model.versions:
                        states = seen.setdefault(version.id.version, [])
                        if states[-1:] != [version.state.value]:
                            states.append(version.state.value)
                    if model.default_version == until and len(model.versions) == 1:
                        return

        for version in (1, 2, 3):
            put(nested(tmp_path, version), score_model(bias=version))
            sidecar.run(look_at_every_change(version))
    assert seen[1][-3:] == seen[2][-3:] == ["LOADING", "AVAILABLE", "UNLOADING"]
    for states in seen.values():
        assert states == sorted(states, key=order.index)


def test_a_file_that_hangs_holds_up_no_other_model(tmp_path: Path) -> None:
    """C9, A15: while one file keeps its judge busy, other models come, are swapped, and answer."""
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        put(tmp_path / "hangs.onnx", endless_model())
        hanging = lambda: any(  # noqa: E731 - a condition with a name
            one.state == wire.VersionDescription.LOADING
            for model in describe(channel).models
            if model.name == "hangs"
            for one in model.versions
        )
        eventually(hanging, "it is being vetted")
        for bias in (2, 3):
            put(tmp_path / "momentum.onnx", score_model(bias=bias))
            eventually(lambda bias=bias: ask(channel) == (1, float(bias)), "the swap beside it")
        assert hanging(), "it was over before the others came: nothing is shown"


def test_the_later_of_two_files_wins(tmp_path: Path) -> None:
    """A15: files that follow each other faster than they load end with the last one served."""
    put(tmp_path / "momentum.onnx", score_model(bias=0))
    with thread_sidecar(tmp_path) as sidecar, grpc.insecure_channel(sidecar.unix) as channel:
        for bias in range(1, 30):
            put(tmp_path / "momentum.onnx", score_model(bias=bias))
            ask(channel)
        eventually(lambda: ask(channel) == (1, 29.0), "the last one")


def test_two_sidecars_share_one_folder_of_models(tmp_path: Path) -> None:
    """F4: each serves and swaps; a second one on the same state says that its rollbacks do not last."""
    put(tmp_path / "models" / "momentum.onnx", score_model(bias=1))
    state = ("--state", str(tmp_path / "state"))
    with (
        process_sidecar(tmp_path / "models", *state) as one,
        process_sidecar(tmp_path / "models", *state) as two,
    ):
        assert "rollbacks will not outlive this process" not in one.log.read_text()
        assert "rollbacks will not outlive this process" in two.log.read_text()
        put(tmp_path / "models" / "momentum.onnx", score_model(bias=2))
        for sidecar in (one, two):
            with grpc.insecure_channel(sidecar.target) as channel:
                eventually(lambda channel=channel: ask(channel) == (1, 2.0), "the swap")


def test_a_rollback_outlives_kill_nine(tmp_path: Path) -> None:
    """Rolled back, killed, started again on the same files: the old bytes answer, the new file is held.

    So it is when the file was touched meanwhile; a file that has changed is taken.
    """
    models, state = tmp_path / "models", ("--state", str(tmp_path / "state"))
    file = models / "momentum.onnx"
    put(file, score_model(bias=1))
    with process_sidecar(models, *state) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        put(file, score_model(bias=2))
        eventually(lambda: ask(channel) == (1, 2.0), "the swap")
        roll_back(channel)
        assert ask(channel) == (1, 1.0)
        sidecar.stop(signal.SIGKILL)
    file.touch()
    with process_sidecar(models, *state) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        assert ask(channel) == (1, 1.0)
        eventually(lambda: "held since a rollback" in problem(channel, "momentum"), "it is told")
        put(file, score_model(bias=3))
        eventually(lambda: ask(channel) == (1, 3.0), "the next file")
        assert problem(channel, "momentum") == ""


def test_a_file_larger_than_all_models_may_be_is_not_even_read(tmp_path: Path) -> None:
    """A19, C3: what cannot fit into the bound on memory is refused by its size, and the old one stays."""
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    with (
        thread_sidecar(tmp_path, max_memory_bytes=4 * 2**20) as sidecar,
        grpc.insecure_channel(sidecar.unix) as channel,
    ):
        with (tmp_path / ".sparse").open("wb") as sparse:
            sparse.truncate(2**30)
        (tmp_path / ".sparse").rename(tmp_path / "momentum.onnx")
        eventually(lambda: "the bound is 4194304" in problem(channel, "momentum"), "it is refused")
        assert ask(channel) == (1, 1.0)


@pytest.mark.parametrize("kind", ["wrong answers", "cut off"])
def test_a_bad_file_that_lies_there_at_a_restart_costs_the_model_nothing(tmp_path: Path, kind: str) -> None:
    """A2, A5: what answered before the kill answers after it, in place of the bad file, and all is ready."""
    models, state = tmp_path / "models", ("--state", str(tmp_path / "state"))
    file = models / "momentum.onnx"
    wrong = score_model(bias=2, contract=score_contract(bias=2.01))
    bad = {"wrong answers": wrong, "cut off": wrong[: len(wrong) // 2]}[kind]
    put(file, score_model(bias=1))
    with process_sidecar(models, *state) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        put(file, bad)
        eventually(lambda: problem(channel, "momentum"), "it is refused")
        kept = tmp_path / "state" / "models" / "momentum.json"
        eventually(kept.exists, "what is served is written down")
        sidecar.stop(signal.SIGKILL)
    with process_sidecar(models, *state) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        assert ask(channel) == (1, 1.0)
        said = {"wrong answers": "golden row", "cut off": "cut off"}[kind]
        eventually(lambda: said in problem(channel, "momentum"), "it is told")


def test_a_state_folder_that_cannot_be_written_costs_a_rollback_and_no_call(tmp_path: Path) -> None:
    """C8: with no room for files of its own the sidecar swaps and answers, and says what is not kept."""
    models = tmp_path / "models"
    put(models / "momentum.onnx", score_model(bias=1))
    (tmp_path / "state").write_text("a file where the folder should be")
    with process_sidecar(models, "--state", str(tmp_path / "state")) as sidecar:
        assert "rollbacks will not outlive this process" in sidecar.log.read_text()
        with grpc.insecure_channel(sidecar.target) as channel:
            put(models / "momentum.onnx", score_model(bias=2))
            eventually(lambda: ask(channel) == (1, 2.0), "the swap")
            roll_back(channel)
            assert ask(channel) == (1, 1.0)
        assert sidecar.stop() == 0, "it removes the folder that it made instead"
