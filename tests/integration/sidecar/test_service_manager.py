"""What a service manager is told, over real datagram sockets: readiness, status, reloads, the end, life."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually as soon
from manual_clock import ManualClock
from onnx_files import endless_model, score_contract, score_model
from servables import FunctionServable
from sidecars import eventually, process_sidecar, put

from inference_server.adapters.service_manager import Announcer, AnnouncerOptions, ServiceManager
from inference_server.core.servable import ServableId, State, VersionStatus
from inference_server.serving.registry import Registry, Standing


class Manager:
    """The socket of a service manager, and each message that came, as its lines."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)  # noqa: FBT003 - its only parameter
        self.messages: list[list[str]] = []

    def read(self) -> list[list[str]]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.messages.append(self._socket.recv(65536).decode().split("\n"))
        return self.messages

    def has(self, *lines: str) -> bool:
        """Whether one message has all of these lines, or lines that begin so."""
        return any(
            all(any(got.startswith(line) for got in message) for line in lines) for message in self.read()
        )

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager on a socket in the file system, or at the address that the test's parameter is."""
    listening = Manager(getattr(request, "param", str(tmp_path / "notify")))
    yield listening
    listening.close()


@pytest.fixture
def told(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Manager:
    """The manager, named to every process that the test starts."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    return manager


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with one model."""
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    return tmp_path / "models"


@pytest.mark.parametrize("manager", [f"@tickserve-test-{os.getpid()}"], indirect=True, ids=["abstract"])
def test_the_manager_is_told_from_the_start_to_the_end(told: Manager, models: Path) -> None:
    """F1, F3: ready once the models found are served, then what changes, then stopping before it drains."""
    with process_sidecar(models) as sidecar:
        eventually(lambda: told.has("READY=1"), "it is ready")
        assert told.read()[0] == ["STATUS=loading the models"]
        assert told.read()[1] == ["READY=1", "STATUS=ready: 1 of 1 models answer"]
        put(models / "two.onnx", score_model("two", bias=0.01, contract=score_contract("two")))
        eventually(
            lambda: told.has("STATUS=ready: 1 of 2 models answer; 1 with a problem: two: version 1"),
            "the refused file is told",
        )
        assert sidecar.stop() == 0
    assert told.read()[-1] == ["STOPPING=1", "STATUS=stopping: waiting for calls in flight"]
    assert sum("READY=1" in message for message in told.read()) == 1


def test_a_broken_model_does_not_hold_up_the_start(told: Manager, tmp_path: Path) -> None:
    """A2: with nothing but a refused file the start is done all the same, and the status says why."""
    put(tmp_path / "models" / "two.onnx", score_model("two", bias=0.01, contract=score_contract("two")))
    with process_sidecar(tmp_path / "models", wait=False):
        eventually(lambda: told.has("READY=1", "STATUS=NOT READY: 0 of 1 models answer"), "the start is done")
        assert told.has("READY=1", "STATUS=NOT READY: 0 of 1 models answer; 1 with a problem: two: version 1")


def test_ready_waits_for_the_models_of_the_start(told: Manager, models: Path) -> None:
    """While a model found at the start is judged nothing says ready, though another answers by then (F1)."""
    put(models / "spins.onnx", endless_model())
    with process_sidecar(models, wait=False) as sidecar:
        eventually(lambda: "available model=one" in sidecar.log.read_text(), "one model answers")
        assert not told.has("READY=1")


def test_a_reload_is_told_with_its_time_and_its_refusal(told: Manager, models: Path, tmp_path: Path) -> None:
    """SIGHUP is RELOADING with a monotonic time, then READY; the status keeps what was wrong until mended."""
    config = tmp_path / "serve.toml"
    config.write_text("")
    with process_sidecar(models, "--config", str(config)) as sidecar:
        eventually(lambda: told.has("READY=1"), "it is ready")
        before = len(told.messages)
        config.write_text("nonsense = 1\n")
        asked_us = time.monotonic_ns() // 1000
        sidecar.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: told.has("READY=1", "STATUS=ready: 1 of 1 models answer; the last"), "it is refused"
        )
        reloading, ready = told.messages[before:]
        assert reloading[0] == "RELOADING=1"
        assert asked_us <= int(reloading[1].removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert "the last reload changed nothing: " in ready[1]
        assert "nonsense" in ready[1]
        config.write_text("[model.ghost]\nrequired = true\n")
        sidecar.process.send_signal(signal.SIGHUP)
        eventually(lambda: told.has("READY=1", "STATUS=NOT READY: 1 of 2 models answer"), "it is taken over")
        assert "the last reload" not in told.messages[-1][-1]


def test_the_watchdog_sees_the_event_loop_live_and_hang(
    told: Manager, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life come at half the time asked for, and end while the process stands still."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with process_sidecar(models) as sidecar:
        lives = eventually(lambda: (n := told.read().count(["WATCHDOG=1"])) > 3 and n, "it lives")
        sidecar.pause()
        lives = told.read().count(["WATCHDOG=1"])
        threading.Event().wait(0.5)  # longer than the watchdog would wait
        assert told.read().count(["WATCHDOG=1"]) == lives
        sidecar.process.send_signal(signal.SIGCONT)
        eventually(lambda: told.read().count(["WATCHDOG=1"]) > lives, "it lives on")


def test_no_child_process_inherits_the_socket(told: Manager, models: Path) -> None:
    """The vetting processes do not know whom they could speak to in the server's name."""
    with process_sidecar(models) as sidecar:
        children = (
            Path(f"/proc/{sidecar.process.pid}/task/{sidecar.process.pid}/children").read_text().split()
        )
        assert children
        for child in children:
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", f"/{'long' * 50}"])
def test_a_manager_that_cannot_be_told_costs_a_line(
    address: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a manager, or with one that cannot be reached, it serves and ends as ever, warned once."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with process_sidecar(models) as sidecar:
        assert sidecar.stop() == 0
        log = sidecar.log.read_text()
    assert "Traceback" not in log
    assert log.count(" WARNING ") == bool(address)


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_what_the_environment_says_is_taken_out_of_it(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    """The watchdog's time counts if it is meant for this process; nothing is left for children to read."""
    environment = {"NOTIFY_SOCKET": "", "HOME": "/", **environment}
    assert ServiceManager.take(environment, pid=7).watchdog_s == watchdog_s
    assert environment == {"HOME": "/"}


def announcer(manager: Manager, registry: Registry, settled, **options: float) -> Announcer:
    """An announcer of a registry, without the pauses of the real one."""
    service_manager = ServiceManager(manager.address, watchdog_s=60)
    options = AnnouncerOptions(**{"pause_s": 0.0, **options})
    return Announcer(service_manager, registry, ManualClock(), settled, options)


def test_a_start_that_takes_too_long_counts_as_done(manager: Manager) -> None:
    """A boot does not wait for ever: after the bound it is READY, and the status says what is the matter."""
    registry = Registry(("momentum",))

    async def main() -> None:
        announcing = announcer(manager, registry, asyncio.Event().wait, start_s=0.01)
        task = asyncio.create_task(announcing.run())
        await soon(lambda: manager.has("READY=1", "STATUS=NOT READY: 0 of 1 models answer; 1 with a problem"))
        task.cancel()
        announcing.stopping()

    asyncio.run(main())


def test_a_text_from_a_file_begins_no_line_of_its_own(manager: Manager) -> None:
    """F10: a problem that quotes hostile bytes stays one bounded line; it cannot say STOPPING=1."""
    registry = Registry()
    registry.publish(FunctionServable(), 1)
    registry.set_standing("momentum", Standing(problem="bad\nSTOPPING=1\r\x85\u2028\udcff" + "x" * 1000))

    async def main() -> None:
        announcing = announcer(manager, registry, lambda: asyncio.sleep(0))
        task = asyncio.create_task(announcing.run())
        await soon(lambda: manager.has("READY=1"))
        task.cancel()
        announcing.stopping()

    asyncio.run(main())
    (ready,) = [message for message in manager.messages if "READY=1" in message]
    assert len(ready) == 2
    assert ready[1].startswith(
        "STATUS=ready: 1 of 1 models answer; 1 with a problem: momentum: bad STOPPING=1 ?x"
    )
    assert len(ready[1]) < 320


def test_what_is_not_taken_is_told_again(tmp_path: Path) -> None:
    """READY=1 is not lost where the manager's socket comes later; a failing status ends no sign of life."""
    registry = Registry()

    async def main() -> None:
        service_manager = ServiceManager(str(tmp_path / "later"), watchdog_s=0.01)
        options = AnnouncerOptions(pause_s=0.0)
        settled = asyncio.Event()
        announcing = Announcer(service_manager, registry, ManualClock(), settled.wait, options)
        task = asyncio.create_task(announcing.run())
        settled.set()
        await asyncio.sleep(0.05)
        manager = Manager(str(tmp_path / "later"))
        await soon(lambda: manager.has("READY=1"))
        registry.describe = lambda: 1 / 0
        registry.set_standing("momentum", Standing(problem="new"))
        lives = manager.read().count(["WATCHDOG=1"])
        await soon(lambda: manager.read().count(["WATCHDOG=1"]) > lives + 3)
        task.cancel()
        announcing.stopping()
        manager.close()

    asyncio.run(main())


def test_a_standing_is_told_once(manager: Manager) -> None:
    """Changes that leave the status text as it was send nothing."""
    registry = Registry()

    async def main() -> None:
        announcing = announcer(manager, registry, lambda: asyncio.sleep(0))
        task = asyncio.create_task(announcing.run())
        await soon(lambda: manager.has("READY=1"))
        for version in range(1, 20):
            registry.set_status(VersionStatus(ServableId("momentum", version), State.LOADING))
            await asyncio.sleep(0.001)
        await soon(lambda: manager.has("STATUS=NOT READY: 0 of 1 models answer"))
        task.cancel()
        announcing.stopping()

    asyncio.run(main())
    assert [message[-1] for message in manager.read() if message != ["WATCHDOG=1"]] == [
        "STATUS=loading the models",
        "STATUS=NOT READY: 0 of 0 models answer",
        "STATUS=NOT READY: 0 of 1 models answer",
        "STATUS=stopping: waiting for calls in flight",
    ]


def test_a_manager_that_does_not_read_delays_nothing(manager: Manager) -> None:
    """Where its queue is full, what is sent is given up at once."""
    service_manager = ServiceManager(manager.address)
    taken = [service_manager.tell("STATUS=" + "x" * 300) for _ in range(10_000)]
    service_manager.close()
    assert taken[0]
    assert not taken[-1]
