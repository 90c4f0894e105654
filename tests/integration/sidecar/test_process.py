"""`inference-server` as a user starts it: signals, addresses, and what the commands print."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import queue
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper
from onnx_files import endless_model, score_contract, score_model, stubborn_model
from sidecars import PATIENCE_S, describe, eventually, process_sidecar, put, stub
from tickserve.v1 import predictor_pb2 as wire

from inference_server.app import ServeOptions
from inference_server.rpc.address import Address
from inference_server.rpc.status import Code
from inference_server.running import serve_until_stopped

ROW = np.array([1, 2, 3], dtype="<f4").tobytes()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one model."""
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    return tmp_path / "models"


def two_inputs(name: str) -> bytes:
    """A file with a contract and an input too many."""
    model = onnx.load_model_from_string(score_model(name))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 1]))
    return model.SerializeToString()


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `inference-server` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "inference_server", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def asking(turns: float) -> wire.PredictRequest:
    """A question that keeps the slow model busy for so many turns, of a microsecond each."""
    row = np.full(3, turns, "<f4").tobytes()
    return wire.PredictRequest(parts=[wire.PredictPart(model="slow", rows=1, features=row)])


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing_behind(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in flight is answered, an open stream ends, the exit code is 0, the socket is gone (F3)."""
    monkeypatch.setenv("TICKSERVE_LIMITS__DRAIN_TIMEOUT_S", str(PATIENCE_S))  # the machine may be busy
    put(models / "slow.onnx", endless_model(turns=None))
    requests: queue.Queue[wire.PredictRequest | None] = queue.Queue()
    with process_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        idle = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
            iter(requests.get, None)
        )
        requests.put(wire.PredictRequest(id="1", parts=[wire.PredictPart(model="one", rows=1, features=ROW)]))
        assert next(idle).id == "1"
        pending = stub(channel, "Predict", wire.PredictResponse).future(asking(5e5), timeout=PATIENCE_S)
        describe(channel)  # which came behind it
        assert not pending.done()
        assert sidecar.stop() == 0
        assert pending.result().parts[0].status.code == 0
        assert next(idle, None) is None
        requests.put(None)
        assert not Path(sidecar.target.removeprefix("unix:")).exists()
        assert "stopped" in sidecar.log.read_text()


def test_a_second_signal_ends_it_at_once(models: Path) -> None:
    """While a call holds the drain up, a second signal exits without waiting."""
    put(models / "slow.onnx", endless_model(turns=None))
    with process_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        pending = stub(channel, "Predict", wire.PredictResponse).future(asking(2**62), timeout=PATIENCE_S)
        eventually(pending.running, "the call is on its way")
        describe(channel)
        sidecar.process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in sidecar.log.read_text(), "it drains")
        assert sidecar.stop(signal.SIGINT) == 1


def test_an_interrupt_that_came_before_the_start_ends_it_before_anything_is_built(
    models: Path, tmp_path: Path
) -> None:
    """Ctrl-C while the libraries are imported is no error: no address is taken and nothing is begun (F3)."""
    socket = tmp_path / "s.sock"

    async def interrupted() -> None:
        asyncio.current_task().cancel()  # as asyncio does at SIGINT
        await serve_until_stopped(ServeOptions(models, (Address.parse(f"unix:{socket}"),)))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert not socket.exists()


def test_a_reload_that_is_asked_for_during_the_start_does_not_end_it(models: Path, tmp_path: Path) -> None:
    """F3: SIGHUP is answered once HTTP answers too; gRPC's callers see a ready sidecar well before that."""
    script = f"""
import asyncio, os, pathlib, signal
from inference_server.app import ServeOptions
from inference_server.running import serve_until_stopped
from inference_server.rpc.address import Address

async def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)

def read_again():
    print("read again")
    os.kill(os.getpid(), signal.SIGTERM)
    return options

async def main():
    asked = asyncio.create_task(hang_up())  # runs where serve_until_stopped waits first
    await serve_until_stopped(options, read_again)

socket = Address(path=pathlib.Path({str(tmp_path / "s")!r}))
options = ServeOptions(pathlib.Path({str(models)!r}), (socket,), http=Address("127.0.0.1", 0))
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "read again\n"), done.stderr


def test_a_run_that_cannot_be_stopped_does_not_keep_the_process(models: Path) -> None:
    """F3: a run that hangs in one node costs its caller the deadline; SIGTERM still ends with 0, warned."""
    put(models / "hangs.onnx", stubborn_model())
    hanging = wire.PredictPart(model="hangs", rows=1, features=np.full(3, 1e7, "<f4").tobytes())
    with process_sidecar(models) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        predict = stub(channel, "Predict", wire.PredictResponse)
        # Time enough for it to begin.
        late = predict(wire.PredictRequest(parts=[hanging], timeout_us=3_000_000), timeout=PATIENCE_S)
        assert late.parts[0].status.code == Code.DEADLINE_EXCEEDED
        one = wire.PredictRequest(parts=[wire.PredictPart(model="one", rows=1, features=ROW)])
        assert predict(one, timeout=PATIENCE_S).parts[0].status.code == 0
        assert describe(channel).ready
        assert sidecar.stop() == 0
        log = sidecar.log.read_text()
        assert "ending although work goes on that cannot be stopped" in log
        assert "Traceback" not in log


def test_a_killed_server_leaves_no_vetting_process(models: Path) -> None:
    """A file that spins in its judge does not go on spinning when the server is killed (C9)."""
    put(models / "spins.onnx", endless_model())
    with process_sidecar(models, wait=False) as sidecar:
        eventually(lambda: "found model=spins" in sidecar.log.read_text(), "it is being vetted")
        server = psutil.Process(sidecar.process.pid)

        def spins() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):  # one that was not needed any more
                return any(it.cpu_times().user > 1 for it in server.children())
            return False

        # A second is more than any start takes. It stands back behind all else: it may take long to have it.
        eventually(spins, "its judge spins")
        judges = server.children()
        sidecar.stop(signal.SIGKILL)
        eventually(
            lambda: all(not it.is_running() or it.status() == psutil.STATUS_ZOMBIE for it in judges),
            "the judges are gone",
        )


def test_the_socket_is_private_and_kept_from_a_second_server(models: Path) -> None:
    """The socket has mode 0600; another server there is refused, and a crash's leftover is not (F4)."""
    with process_sidecar(models) as sidecar:
        path = Path(sidecar.target.removeprefix("unix:"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        second = command("serve", "--models", models, "--listen", sidecar.target, "--http", "off")
        assert second.returncode == 1
        assert "another server is listening there" in second.stderr
        sidecar.stop(signal.SIGKILL)
        assert path.is_socket()
        with process_sidecar(models, "--listen", sidecar.target) as third:
            assert third.process.poll() is None


def test_a_server_that_stops_leaves_its_successors_socket(models: Path) -> None:
    """A socket file that was removed and made anew by another server outlives the first one's end (E9)."""
    with process_sidecar(models) as first:
        path = Path(first.target.removeprefix("unix:"))
        path.unlink()
        with process_sidecar(models, "--listen", first.target) as second:
            assert first.stop() == 0
            assert list(path.parent.glob(".*")) == []
            with grpc.insecure_channel(first.target) as channel:
                assert describe(channel).ready
            second.stop()
        assert not path.exists()


def test_a_port_in_use_is_one_clear_line(models: Path) -> None:
    """A port that somebody has is named, and nothing is shared without a word (F4)."""
    with process_sidecar(models, "--listen", "127.0.0.1:0") as sidecar:
        address = sidecar.log.read_text().split("listening on ")[1].split()[1]
        other = models.parent / "other.sock"
        listen = ("--listen", f"unix:{other}", "--listen", address)
        done = command("serve", "--models", models, *listen, "--http", "off")
        assert (done.returncode, other.exists()) == (1, False)
        assert f"inference-server: {address}: cannot listen there" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["serve", "--listen", "0.0.0.0:0"], 1, "--allow-remote-plaintext"),
        (["serve", "--listen", "nowhere"], 2, "--listen: nowhere: expected unix:/PATH or HOST:PORT"),
        (
            ["serve", "--http", "10.0.0.1:80"],
            1,
            "inference-server: 10.0.0.1:80: other machines could reach it and there is no TLS",
        ),
        (
            ["serve", "--http", "nowhere"],
            2,
            "--http: expected HOST:PORT, or 'off', came 'nowhere'",
        ),
        (["serve", "--config", "no.toml"], 2, "no.toml: No such file"),
        (
            ["serve", "--log-level", "loud"],
            2,
            "--log-level: expected DEBUG, INFO, WARNING or ERROR, came 'loud'",
        ),
        (["serve", "--allow-contract-change", "../x"], 2, "--allow-contract-change: model name '../x'"),
        (["status", "--target", "unix:/nowhere.sock"], 1, "no sidecar can be reached"),
        (["status", "--target", "127.0.0.1"], 2, "--target 127.0.0.1: expected unix:/PATH or HOST:PORT"),
        (["status", "--watch", "--json"], 2, "do not go together"),
        (["predict", "one:X", "1", "--target", "unix:/nowhere.sock"], 2, "expected MODEL"),
        (["predict", "one:²", "1"], 2, "expected MODEL"),
        (["predict", f"one:{2**64}", "1"], 2, "expected MODEL"),
        (["check", "no.onnx"], 1, "no.onnx"),
    ],
)
def test_wrong_usage_is_one_clear_line(arguments: list[str], code: int, text: str) -> None:
    """What cannot be done is said in a line, with exit 2 for usage and 1 for the world; never a traceback."""
    done = command(*arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert text in done.stderr


def test_a_wrong_address_in_the_configuration_names_the_file(tmp_path: Path) -> None:
    """Which of file and flag it was is said, with the key."""
    config = tmp_path / "serve.toml"
    for text, told in (
        ('listen = ["nowhere"]', f"{config}: listen: nowhere: expected unix:/PATH or HOST:PORT"),
        (
            'http = "unix:/a"',
            f"{config}: http: expected HOST:PORT, or 'off', came 'unix:/a'",
        ),
    ):
        config.write_text(text)
        done = command("serve", "--config", config)
        assert (done.returncode, done.stderr) == (2, f"inference-server: {told}\n")


def test_the_configuration_file_is_followed(tmp_path: Path) -> None:
    """Policies and required models of the file hold while serving; what it waits for is shown."""
    for version in (1, 2, 3):
        put(tmp_path / "models" / "one" / str(version) / "model.onnx", score_model("one"))
    config = tmp_path / "serve.toml"
    config.write_text("[model.one]\nversions = [1, 3]\n[model.ghost]\nrequired = true\n")
    with (
        process_sidecar(tmp_path / "models", "--config", str(config), wait=False) as sidecar,
        grpc.insecure_channel(sidecar.target) as channel,
    ):
        eventually(lambda: sidecar.log.read_text().count("available model=one") == 2, "both are served")
        described = describe(channel)
        assert [[version.version for version in model.versions] for model in described.models] == [[], [3, 1]]
        assert (described.ready, described.models[0].problem) == (False, "required, but not found yet")
        put(tmp_path / "models" / "ghost.onnx", score_model("ghost"))
        eventually(lambda: describe(channel).ready, "it is ready with the required model")
        config.write_text("[model.phantom]\nrequired = true\n")
        sidecar.process.send_signal(signal.SIGHUP)
        eventually(lambda: not describe(channel).ready, "another model is required now")


def test_listening_elsewhere_can_be_said(models: Path) -> None:
    """Told so, it listens where other machines can reach."""
    with process_sidecar(models, "--listen", "0.0.0.0:0", "--allow-remote-plaintext") as sidecar:
        assert "0.0.0.0:" in sidecar.log.read_text()


def test_status_shows_the_reason_for_a_refused_file(models: Path) -> None:
    """A file with wrong answers, dropped over a live one, shows its golden row; the old one serves on."""
    with process_sidecar(models) as sidecar:
        good = json.loads(command("status", "--target", sidecar.target, "--json").stdout)["models"][0]
        put(models / "one.onnx", score_model("one", bias=0.01, contract=score_contract("one")))
        put(models / "two.onnx", score_model("two"))
        shown = eventually(
            lambda: (
                (text := command("status", "--target", sidecar.target).stdout)
                and "golden row" in text
                and "two" in text
                and text
            ),
            "status shows the reason",
        )
        assert "ready" in shown
        assert good["versions"][0]["digest"][:12] in shown
        log = sidecar.log.read_text()
        assert "golden row" in log
        predicted = command("predict", "one", 1, 2, 3, "--target", sidecar.target)
        assert (predicted.returncode, "6" in predicted.stdout.split()) == (0, True)
        refused = command("predict", "one", 1, 2, "--target", sidecar.target)
        assert refused.returncode == 1
        assert "came shape [1, 2]" in refused.stderr


@contextlib.contextmanager
def terminal(*arguments: object, columns: int) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """Run `inference-server` on a terminal of this width; yields it, and what the terminal has got so far."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "inference_server", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    os.set_blocking(master, False)
    got = bytearray()

    def screen() -> str:
        with contextlib.suppress(BlockingIOError, OSError):  # nothing yet; its end
            while part := os.read(master, 65536):
                got.extend(part)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", got.decode(errors="replace")).replace("\r", "")

    try:
        yield process, screen
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_status_fits_a_terminal_and_swallows_no_text(models: Path) -> None:
    """On 80 columns a row is a line, and a reason is whole: what looks like markup in it is text."""
    put(models / "two.onnx", two_inputs("two"))
    with process_sidecar(models, wait=False) as sidecar:
        eventually(lambda: "refused model=two" in sidecar.log.read_text(), "it is refused")
        eventually(lambda: "available model=one" in sidecar.log.read_text(), "the other one answers")
        with terminal("status", "--target", sidecar.target, columns=80) as (process, screen):
            assert process.wait(PATIENCE_S) == 0
            lines = screen().splitlines()
    assert lines[0].startswith(f"{sidecar.target}: NOT READY")
    assert lines[1].split() == ["model", "version", "state", "digest", "contract", "since", "(UTC)"]
    assert [line.split()[:3] for line in lines[2:4]] == [["one", "1", "*"], ["two", "1", "END"]]
    assert max(map(len, lines)) <= 80
    told = " ".join(word for line in lines[5:] for word in line.split())
    assert "expected one float32 input of [any number of rows, 3 features], the file takes 2 inputs" in told
    assert told.count("expected one float32 input") == 1


def test_a_watch_outlives_the_sidecar(models: Path) -> None:
    """`status --watch` says that the sidecar is gone, shows the next one, and ends by Ctrl-C with 0."""
    with (
        process_sidecar(models) as sidecar,
        terminal("status", "--watch", "--target", sidecar.target, columns=120) as (process, screen),
    ):
        eventually(lambda: ": ready" in screen(), "it is shown")
        sidecar.stop(signal.SIGKILL)
        eventually(lambda: "trying again" in screen(), "its end is shown")
        before = len(screen())
        with process_sidecar(models, "--listen", sidecar.target):
            eventually(lambda: ": ready" in screen()[before:], "the next one is shown")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
            assert "Traceback" not in screen()


def test_a_negative_feature_is_no_option(models: Path) -> None:
    """`predict` takes negative values as they are."""
    with process_sidecar(models) as sidecar:
        done = command("predict", "one", "-1", "-.5", "4", "--target", sidecar.target)
        assert (done.returncode, done.stdout.split()[-1]) == (0, "2.5")


def test_check_says_what_serve_would_say(models: Path, tmp_path: Path) -> None:
    """`check` passes a good file, and refuses a bad one with the words of the log and status."""
    assert command("check", models / "one.onnx").returncode == 0
    bad = tmp_path / "one.onnx"
    put(bad, score_model("one", bias=0.01, contract=score_contract("one")))
    done = command("check", bad)
    assert done.returncode == 1
    assert "golden row" in done.stderr
    put(models / "one.onnx", bad.read_bytes())
    with process_sidecar(models, wait=False) as sidecar, grpc.insecure_channel(sidecar.target) as channel:
        eventually(lambda: "refused" in sidecar.log.read_text(), "it is refused")
        problem = eventually(lambda: describe(channel).models[0].problem, "the reason is shown")
        reason = done.stderr.split("one.onnx: ", 1)[1].strip()
        assert reason in problem
        assert reason in sidecar.log.read_text()


def test_what_the_start_made_is_left_out_of_garbage_collection(models: Path, tmp_path: Path) -> None:
    """B4: a full collection, which stops all calls, has only what came since the start to walk through."""
    script = f"""
import asyncio, gc, os, pathlib, signal
from inference_server.app import ServeOptions
from inference_server.running import serve_until_stopped
from inference_server.rpc.address import Address

async def main():
    socket = Address(path=pathlib.Path({str(tmp_path / "s")!r}))
    options = ServeOptions(pathlib.Path({str(models)!r}), (socket,))
    serving = asyncio.create_task(serve_until_stopped(options))
    while not gc.get_freeze_count() and not serving.done():
        await asyncio.sleep(0.01)
    print(gc.get_freeze_count() > 10 * len(gc.get_objects()))
    os.kill(os.getpid(), signal.SIGTERM)
    await serving

asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.stdout == "True\n", done.stderr
