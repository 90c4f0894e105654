"""What a service manager such as systemd is told of this process, by the protocol of sd_notify(3).

Each message is one datagram of `NAME=value` lines to the socket that `$NOTIFY_SOCKET` names. It is sent from
the event loop without waiting, and what cannot be sent costs a line in the log, never a call.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from inference_server.core.clock import Clock
from inference_server.core.servable import ModelStatus
from inference_server.serving.registry import Registry

log = logging.getLogger(__name__)

MAX_STATUS: Final = 300
MICROSECONDS: Final = re.compile(r"[1-9][0-9]{0,18}")


class ServiceManager:
    """The way to the service manager; `address` empty: there is none, and nothing is sent.

    `watchdog_s` is the time without a sign of life after which it ends the process; None: it does not look.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s: Final = watchdog_s
        self._address = address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        elif address:
            log.warning("NOTIFY_SOCKET=%s: expected /PATH or @NAME; nobody is told", address)
        self._failed = False

    def __repr__(self) -> str:
        return f"<ServiceManager {self._address if self else 'absent'}, watchdog {self.watchdog_s} s>"

    def __bool__(self) -> bool:
        return self._socket is not None

    @classmethod
    def take(cls, environment: MutableMapping[str, str], pid: int) -> Self:
        """Take it out of the environment, so that no child process speaks for this one."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        looks = environment.pop("WATCHDOG_PID", str(pid)) == str(pid) and MICROSECONDS.fullmatch(watchdog_us)
        return cls(address, int(watchdog_us) / 1e6 if looks else None)

    def tell(self, *lines: str) -> bool:
        """Send lines as one message; whether it was taken, or there is nobody to take it. Never waits."""
        if self._socket is None:
            return True
        name = self._address
        # "@NAME" is how an abstract address is written; the system wants a NUL there.
        address = f"\0{name[1:]}" if name.startswith("@") else name
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError as error:
            if not self._failed:
                log.warning("the service manager at %s cannot be told: %s", name, error)
            self._failed = True
            return False
        self._failed = False
        return True

    def close(self) -> None:
        """Free the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class AnnouncerOptions:
    """`start_s`: READY=1 is sent after so long even if models of the start are still on their way.

    It is below the 90 s after which systemd by default gives a start up. `pause_s`: between two texts, and
    before a message that was not taken is sent again.
    """

    start_s: float = 60.0
    pause_s: float = 1.0


class Announcer:
    """Tells the service manager how the sidecar stands, as long as `run` runs.

    READY=1 means: it answers, and each model found at the start is served or refused, as `settled` says. It
    does not wait for more, for no restart mends a broken file; whether it is ready for calls stands in the
    status text, and in the probes. `settled` must bear to be cancelled.
    """

    def __init__(
        self,
        manager: ServiceManager,
        registry: Registry,
        clock: Clock,
        settled: Callable[[], Awaitable[None]],
        options: AnnouncerOptions | None = None,
    ) -> None:
        self._manager = manager
        self._registry = registry
        self._clock = clock
        self._settled = settled
        self._options = options or AnnouncerOptions()
        self._note = ""
        self._told = ""
        self._owes_ready = False

    def __repr__(self) -> str:
        return f"<Announcer to {self._manager}>"

    async def run(self) -> None:
        """Tell until cancelled; returns at once where there is nobody to be told."""
        if not self._manager:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._show_life())
            tasks.create_task(self._report())

    def reloading(self) -> None:
        """Say that the configuration is being read again; `reloaded` must follow."""
        # systemd compares it with the time at which it asked for the reload.
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={self._clock.monotonic_ns() // 1000}")

    def reloaded(self, refusal: str = "") -> None:
        """Say that this is over; a refusal stays in the status text until a reload succeeds."""
        self._note = f"the last reload changed nothing: {refusal}" if refusal else ""
        self._owes_ready = True
        self._tell_standing()

    def stopping(self) -> None:
        """Say that it drains and ends; after it nothing else may be sent."""
        self._manager.tell("STOPPING=1", "STATUS=stopping: waiting for calls in flight")
        self._manager.close()

    async def _show_life(self) -> None:
        """Prove again and again that the event loop still turns, on which all calls depend."""
        if self._manager.watchdog_s is None:
            return
        while True:
            self._manager.tell("WATCHDOG=1")
            await asyncio.sleep(self._manager.watchdog_s / 2)

    async def _report(self) -> None:
        try:
            await self._start()
            await self._follow()
        except Exception:  # a status that cannot be told must not end the signs of life, and so the process
            log.exception("telling the service manager failed; it is told no more")

    async def _start(self) -> None:
        self._manager.tell("STATUS=loading the models")
        try:
            async with asyncio.timeout(self._options.start_s):
                await self._settled()
        except TimeoutError:
            log.warning("models still load after %g s; the start counts as done", self._options.start_s)
        self._owes_ready = True

    async def _follow(self) -> None:
        """Tell the standing when it has changed; a swap is many changes, so not more often than the pause."""
        while True:
            seen = self._registry.revision
            taken = self._tell_standing()
            await asyncio.sleep(self._options.pause_s)
            if taken:
                await self._registry.wait_changed(seen)

    def _tell_standing(self) -> bool:
        """Tell the status if it is news, with READY=1 where that is owed; whether nothing is left to tell."""
        status = self._status()
        if status == self._told and not self._owes_ready:
            return True
        if not self._manager.tell(*(("READY=1",) if self._owes_ready else ()), status):
            return False
        self._told, self._owes_ready = status, False
        return True

    def _status(self) -> str:
        parts = [standing_text(self._registry.ready(), self._registry.describe()), self._note]
        # What a file holds comes into a problem's text: it must not begin a line of its own.
        text = " ".join("; ".join(filter(None, parts)).split())
        return f"STATUS={text[:MAX_STATUS]}"


def standing_text(ready: bool, models: Sequence[ModelStatus]) -> str:
    """Return how many models answer, and what is wrong with which; for the line of `systemctl status`."""
    answering = sum(1 for model in models if model.default_version)
    text = f"{'ready' if ready else 'NOT READY'}: {answering} of {len(models)} models answer"
    problems = [f"{model.name}: {model.problem}" for model in models if model.problem]
    if problems:
        text += f"; {len(problems)} with a problem: {'; '.join(problems)}"
    return text
