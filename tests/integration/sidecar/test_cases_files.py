"""Files that are no good, dropped over live ones: the old bytes answer on, and the reason can be read."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from asking import ROW_SUM, Asking, asking
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from onnx_files import GOLDEN_ROWS, score_model
from sidecars import eventually, process_sidecar, put, thread_sidecar

from inference_server.core.contract import Contract

ROOT = Path(__file__).parents[3]
SAMPLES = sorted([*ROOT.glob("models/*.onnx"), *ROOT.glob("examples/next/*.onnx")])
CUTS = range(1, 16)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository whose model `one` answers the sum of its row."""
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    return tmp_path / "models"


@pytest.fixture
def asked(models: Path) -> Iterator[Asking]:
    """A client of a sidecar on that repository."""
    with thread_sidecar(models) as sidecar, asking(sidecar) as client:
        yield client


def changed(change: Callable[[onnx.ModelProto], None], **fields: object) -> bytes:
    """A good file for the model `one`, after a change to its graph that its contract does not know of."""
    model = onnx.load_model_from_string(score_model("one", **fields))
    change(model)
    return model.SerializeToString()


def copy(path: Path, content: bytes) -> None:
    """Write over the file that lies there, as `cp` does."""
    path.write_bytes(content)


def sample_named(sample: Path, name: str, model_version: int) -> bytes:
    """A sample's bytes as another model's: only the name in its contract and its version differ."""
    model = onnx.load(sample)
    (entry,) = model.metadata_props
    contract = Contract.from_json(entry.value)
    fields = {field: getattr(contract, field) for field in Contract.__match_args__ if field != "hash"}
    entry.value = Contract(**(fields | {"model": name})).to_json()
    model.model_version = model_version
    return model.SerializeToString()


def test_every_truncation_of_every_sample_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """C1: cut at each sixteenth, each sample leaves the old one answering, with its reason, and is mended."""
    assert len(SAMPLES) >= 3
    named = {f"sample-{number}-{cut}": (sample, cut) for number, sample in enumerate(SAMPLES) for cut in CUTS}
    for name, (sample, _) in named.items():
        put(tmp_path / f"{name}.onnx", sample_named(sample, name, 7))
    with thread_sidecar(tmp_path) as sidecar, asking(sidecar) as client:
        names = list(named)
        before = client.ask_all(names)
        whole = {name: sample_named(sample, name, 8) for name, (sample, _) in named.items()}
        for name, (_, cut) in named.items():
            place = put if cut % 2 else copy
            place(tmp_path / f"{name}.onnx", whole[name][: len(whole[name]) * cut // 16])

        def all_told() -> bool:
            assert client.ask_all(names) == before
            return all(client.problems()[name] for name in names)

        eventually(all_told, "the reason of each is shown")
        for name, problem in client.problems().items():
            assert "cut off" in problem, f"{name}: {problem}"
        for name in names:
            put(tmp_path / f"{name}.onnx", whole[name])
        eventually(lambda: {answer.version for answer in client.ask_all(names)} == {8}, "all are mended")
        after = client.ask_all(names)
        assert [answer.digest for answer in after] == [hashlib.sha256(whole[n]).hexdigest() for n in names]
        eventually(lambda: not any(client.problems().values()), "no problem is left")


def test_a_file_cut_off_just_before_its_contract_is_refused(asked: Asking, models: Path) -> None:
    """C1: what is left is a whole ONNX file that runs; it is refused, for its contract is missing."""
    whole = score_model("one", bias=1)
    cut = [size for size in range(len(whole)) if runs_without_contract(whole[:size])]
    assert len(cut) == 1, "there is one such place, after the operator sets"
    put(models / "one.onnx", whole[: cut[0]])
    asked.eventually_problem("one", "a contract before, no contract now")
    put(models / "one.onnx", whole)
    asked.eventually_score("one", ROW_SUM + 1)


def runs_without_contract(content: bytes) -> bool:
    """Say whether these bytes are an ONNX file that lacks nothing but its contract."""
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError):
        return False
    return len(model.opset_import) == 2 and not model.metadata_props


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


ODD = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "sparse": (make_sparse, "has 10737418240 bytes, the bound is 2147483648"),
}


@pytest.mark.parametrize("place", ["{}.onnx", "{}/1/model.onnx"], ids=["flat", "nested"])
def test_what_is_no_file_leaves_the_old_one_serving(tmp_path: Path, place: str) -> None:
    """C3: zero bytes, a folder, a pipe, a dangling link, 10 GB of nothing, over live files: told, mended."""
    files = {name: tmp_path / place.format(name) for name in (*ODD, "good")}
    for name, file in files.items():
        put(file, score_model(name))
    with thread_sidecar(tmp_path) as sidecar, asking(sidecar) as client:
        before = client.ask_all(list(files))
        for name, (make, _) in ODD.items():
            files[name].unlink()
            make(files[name])
        for name, (_, reason) in ODD.items():
            assert str(tmp_path) not in client.eventually_problem(name, reason)
        assert client.ask_all(list(files)) == before
        # A pipe or huge file that held up the looking would hold up this one, too.
        put(files["good"], score_model("good", bias=1))
        client.eventually_score("good", ROW_SUM + 1)
        for name in ODD:
            if files[name].is_dir():
                files[name].rmdir()
            put(files[name], score_model(name, bias=2))
            client.eventually_score(name, ROW_SUM + 2)
        assert not any(client.problems().values())


LINKS = {
    "environ": "/proc/self/environ",  # of size 0, as stat tells, and never at its end after as many bytes
    "uptime": "/proc/uptime",
    "memory": "/proc/self/mem",
    "zero": "/dev/zero",
    "input": "/dev/stdin",
    "terminal": "/dev/tty",
    "folder": "/proc",
}


def test_no_link_to_what_is_no_file_holds_up_the_start_or_the_stop(tmp_path: Path) -> None:
    """C3, F3: links to devices and into /proc, lying there at the start, are told; the rest is served."""
    for name, target in LINKS.items():
        (tmp_path / f"{name}.onnx").symlink_to(target)
    put(tmp_path / "good.onnx", score_model("good"))
    with thread_sidecar(tmp_path) as sidecar, asking(sidecar) as client:  # settled, or it fails
        assert {name for name, problem in client.problems().items() if problem} == LINKS.keys()
        assert client.ask("good").score == np.float32(ROW_SUM)
        put(tmp_path / "environ.onnx", score_model("environ"))
        sidecar.settle()
        assert client.ask("environ").score == np.float32(ROW_SUM)


@pytest.fixture
def bound_by_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sidecar processes be bound by file modes as any user is, although the tests may run as root."""
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("as root, file modes bind nobody without setpriv")
        run_by(tmp_path, monkeypatch, f"exec {setpriv} --bounding-set=-dac_override,-dac_read_search")


def run_by(folder: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """Start sidecar processes by this beginning of a shell's line."""
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\n{prefix} {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(wrapper))


@pytest.mark.usefixtures("bound_by_modes")
def test_a_file_that_may_not_be_read_leaves_the_old_one_serving(models: Path) -> None:
    """C3: a file without read permission over a live one is told; once it may be read it takes over."""
    with process_sidecar(models) as sidecar, asking(sidecar.target) as client:
        part = models / ".one.onnx.part"
        part.write_bytes(score_model("one", bias=1))
        part.chmod(0)
        part.rename(models / "one.onnx")
        client.eventually_problem("one", "may not be read: no permission")
        (models / "one.onnx").chmod(0o600)
        client.eventually_score("one", ROW_SUM + 1)
        assert client.problem("one") == ""


def wrong_on_one_row(model: onnx.ModelProto) -> None:
    """Make the answer 0.01 too large where the third feature is above 3.5: on golden row 2 alone."""
    model.graph.node[-1].output[0] = "right"
    for name, value in (("high", 3.5), ("error", 0.01)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, (1,), [value]))
    model.graph.initializer.append(helper.make_tensor("third", TensorProto.INT64, (1,), [2]))
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["features", "third"], ["c"], axis=1),
            helper.make_node("Greater", ["c", "high"], ["above"]),
            helper.make_node("Cast", ["above"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["one", "error"], ["wrong"]),
            helper.make_node("Add", ["right", "wrong"], ["score"]),
        ]
    )


def test_a_file_that_is_wrong_on_one_golden_row_is_refused_and_status_shows_the_row(models: Path) -> None:
    """C5: the same signature, 0.01 off on one golden row: refused, `status` shows it, the old one answers."""
    assert (GOLDEN_ROWS[:, 2] > 3.5).tolist() == [False, False, True]
    with process_sidecar(models) as sidecar, asking(sidecar.target) as client:
        put(models / "one.onnx", changed(wrong_on_one_row))
        client.eventually_problem("one", "golden row")
        assert client.ask("one").score == np.float32(ROW_SUM)
        status = subprocess.run(
            [sys.executable, "-m", "inference_server", "status", "--target", sidecar.target],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout
        assert f"{sidecar.target}: ready" in status
        told = " ".join(status.split())
        assert "golden row 2: output 'score' is 3.51, the estimator answered 3.5 (off by 0.01)" in told
        assert "golden row 0" not in told
        put(models / "one.onnx", score_model("one", bias=1))
        client.eventually_score("one", ROW_SUM + 1)


@pytest.mark.parametrize("first", ["file", "manifest"])
def test_a_file_is_served_when_it_and_its_manifest_fit(asked: Asking, models: Path, first: str) -> None:
    """C6: replaced one after the other, in either order, the new file answers only when both are there."""
    file, manifest = models / "one.onnx", models / "one.onnx.sha256"
    new = score_model("one", bias=1)
    line = f"{hashlib.sha256(new).hexdigest()}  one.onnx\n".encode()
    put(manifest, f"{hashlib.sha256(file.read_bytes()).hexdigest()}  one.onnx\n".encode())
    steps = [lambda: put(file, new), lambda: put(manifest, line)]
    one, other = steps if first == "file" else steps[::-1]
    one()
    digests = [hashlib.sha256(content).hexdigest()[:12] for content in (new, score_model("one"))]
    said, came = digests[::-1] if first == "file" else digests
    asked.eventually_problem("one", f"the manifest says {said}…, the file is {came}…")
    other()
    asked.eventually_score("one", ROW_SUM + 1)
    assert asked.problem("one") == ""


def test_times_say_nothing(asked: Asking, models: Path) -> None:
    """C7: the same size and mtime with other bytes, and an mtime that goes back, are swaps like any other."""
    file = models / "one.onnx"
    before = file.stat()
    for replace, bias in ((copy, 1), (put, 2), (copy, 3)):
        replace(file, score_model("one", bias=bias))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        asked.eventually_score("one", ROW_SUM + bias)
    old, new = score_model("one", bias=4), score_model("one", bias=5)
    assert len(old) == len(new) == before.st_size, "the sizes are to be the same"
    for content, second, bias in ((old, 10**9, 4), (new, 1, 5)):
        part = models / ".one.onnx.part"
        part.write_bytes(content)
        os.utime(part, (second, second))
        part.rename(file)
        asked.eventually_score("one", ROW_SUM + bias)


def test_a_copy_that_the_disk_had_no_room_for_is_mended(asked: Asking, models: Path, tmp_path: Path) -> None:
    """C8: a copy that really failed on the way leaves the old one serving; a second copy takes over."""
    content = score_model("one", bias=1, padding=50_000)
    (tmp_path / "new").write_bytes(content)
    command = ["sh", "-c", 'ulimit -f 16; cp "$0" "$1"', tmp_path / "new", models / "one.onnx"]
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0
    assert 0 < (models / "one.onnx").stat().st_size < len(content)
    asked.eventually_problem("one", "cut off")
    shutil.copy(tmp_path / "new", models / "one.onnx")
    asked.eventually_score("one", ROW_SUM + 1)
    assert asked.problem("one") == ""


def keep_outside(location: str) -> Callable[[onnx.ModelProto], None]:
    """Let the weights lie in another file."""

    def change(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("float_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
        weights.external_data.add(key="length", value="12")

    return change


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{}/weights.bin", "/etc/passwd"])
def test_data_in_other_files_is_refused(asked: Asking, models: Path, location: str) -> None:
    """C10: beside the file, above it or anywhere, though it is there and fits: the old one answers on."""
    for folder in (models, models.parent):
        (folder / "weights.bin").write_bytes(np.full(3, 2, "<f4").tobytes())
    location = location.format(models.parent)
    put(models / "one.onnx", changed(keep_outside(location)))
    problem = asked.eventually_problem("one", "keeps its data in another file")
    assert "tensor 'weights'" in problem
    assert str(models.parent) not in problem
    put(models / "one.onnx", score_model("one", bias=1))
    asked.eventually_score("one", ROW_SUM + 1)


@pytest.mark.parametrize("domain", ["evil.ops", "com.microsoft.experimental"])
def test_custom_operators_are_refused(asked: Asking, models: Path, domain: str) -> None:
    """C11: an operator of a domain that is not known: the old one answers on, and the reason names both."""

    def customise(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = domain
        model.opset_import.append(helper.make_opsetid(domain, 1))

    put(models / "one.onnx", changed(customise))
    asked.eventually_problem("one", f"operator 'MatMul' is of the domain {domain!r}")
    put(models / "one.onnx", score_model("one", bias=1))
    asked.eventually_score("one", ROW_SUM + 1)


def test_without_file_events_the_sidecar_polls(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: on a system that grants no file events at all, a swap is found all the same; the log says how."""
    settings = Path("/proc/sys/user/max_inotify_instances")
    probe = ["unshare", "-Ur", "sh", "-c", f"echo 0 > {settings}"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no user namespace of our own, in which file events could be taken away")
    run_by(tmp_path, monkeypatch, f'exec unshare -Ur sh -c \'echo 0 > {settings}; exec "$0" "$@"\'')
    with process_sidecar(models) as sidecar, asking(sidecar.target) as client:
        for bias in (1, 2):
            put(models / "one.onnx", score_model("one", bias=bias))
            client.eventually_score("one", ROW_SUM + bias)
        assert "file events are not available, polling" in sidecar.log.read_text()


def test_an_overflow_of_file_events_loses_no_swap(models: Path) -> None:
    """C8: more events than the system keeps, while the sidecar stands still: what was lost is found."""
    bound = Path("/proc/sys/fs/inotify/max_queued_events")
    if not bound.exists():
        pytest.skip("this system does not say how many file events it keeps")
    n_events = int(bound.read_text()) + 1000
    if n_events > 200_000:
        pytest.skip("this system keeps more file events than a test can make")
    parts = [models / ".a.part", models / ".b.part"]
    with process_sidecar(models) as sidecar, asking(sidecar.target) as client:
        for part in parts:
            part.touch()
        client.eventually_score("one", ROW_SUM)
        sidecar.pause()
        # Two files in turn, for equal events one after the other are kept as one.
        files = [part.open("ab", buffering=0) for part in parts]
        for number in range(n_events):
            files[number % 2].write(b"x")
        for file in files:
            file.close()
        put(models / "one.onnx", score_model("one", bias=1))
        sidecar.process.send_signal(signal.SIGCONT)
        client.eventually_score("one", ROW_SUM + 1)
