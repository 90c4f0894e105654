"""The server under load of `perf_analyzer`: requests a second, and what processor time each costs it.

Ours beside a bare echo of our messages, MLServer and KServe, over TCP on loopback, with 1 to 64 requests in
flight; peers as they come at the one load that is asked for. Each of these servers is one thread of Python
that is always busy under load, so that its processor time a call is also the ceiling of its rate, and the
steadier figure where the load generator has to share the processors with the server.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tests_path  # noqa: F401 - makes the tests' programs importable
from bench import Effort
from fetched import CannotRunError
from finding import AT_LEAST, AT_MOST, Finding, Line, compare
from interleaved import Series
from perf_analyzer import PerfAnalyzer, Report, perf_analyzer
from v2_servers import ECHO, INPUT, MODEL, OURS, PEERS, WIDTH, Server, echo_of, ours, running

IN_FLIGHT: Final = [8, 1, 32, 64]
ASKED_AT: Final = 8
WINDOW_MS: Final = 500
SHORT_WINDOW_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Generator:
    """The load generator with what it asks."""

    program: PerfAnalyzer
    arguments: tuple[str, ...]
    window_ms: int

    def press(self, server: Server, in_flight: int) -> tuple[float, float, int]:
        """Return requests a second, the server's processor time for each in microseconds, and how many."""
        report, cost_us = self.report(server, in_flight)
        return report.rate, cost_us, report.number("Request count")

    def report(self, server: Server, in_flight: int) -> tuple[Report, float]:
        """Return the program's report and the server's processor time for a request in microseconds.

        The few requests before and after its windows are not counted, but their time is: at 8 in flight 1 %.
        """
        before_us = server.cpu_us()
        report = self.program.run(
            *self.arguments,
            *("-u", server.address, "--concurrency-range", str(in_flight)),
            window_ms=self.window_ms,
        )
        return report, (server.cpu_us() - before_us) / report.number("Request count")


@contextlib.contextmanager
def generator(*, short: bool) -> Iterator[Generator]:
    """Give the generator with one row for its input; CannotRunError where it cannot be had."""
    program = perf_analyzer()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        row = {"content": [1e-4] * WIDTH, "shape": [1, WIDTH]}
        rows.write_text(json.dumps({"data": [{INPUT: row}]}), encoding="utf-8")
        arguments = ("-i", "grpc", "-m", MODEL, "--shape", f"{INPUT}:1,{WIDTH}", "--input-data", str(rows))
        yield Generator(program, arguments, SHORT_WINDOW_MS if short else WINDOW_MS)


@dataclass(slots=True)
class Rounds:
    """What each server did at each load, round by round."""

    rates: dict[str, Series] = field(default_factory=dict)
    costs: dict[str, Series] = field(default_factory=dict)

    def add(self, server: str, in_flight: int, rate: float, cost_us: float) -> None:
        """Keep one measurement."""
        self.rates.setdefault(rate_of(server, in_flight), Series("/s")).values.append(rate)
        self.costs.setdefault(cost_of(server, in_flight), Series("us")).values.append(cost_us)

    def has(self, server: str, in_flight: int) -> bool:
        """Whether it was measured so."""
        return rate_of(server, in_flight) in self.rates


def rate_of(server: str, in_flight: int) -> str:
    """Return what the line of a rate says."""
    return f"requests a second, {in_flight} in flight: {server}"


def cost_of(server: str, in_flight: int) -> str:
    """Return what the line of a cost says."""
    return f"server's processor time a request, {in_flight} in flight: {server}"


def lines_of(rounds: Rounds, sizes: list[int]) -> list[Line]:
    """Return ours beside each other server at each load, each other beside the echo, and what each costs."""
    lines = []
    for size in sorted(sizes):
        rates, asked = rounds.rates, size == ASKED_AT
        floor = rate_of(ECHO, size)
        lines.append(compare(rate_of(OURS, size), rates, floor, bound=0.9 if asked else None, sense=AT_LEAST))
        for peer in PEERS:
            if rounds.has(str(peer), size):
                bound = 3.0 if asked and peer.package == "mlserver" else None
                theirs = rate_of(str(peer), size)
                lines.append(compare(rate_of(OURS, size), rates, theirs, bound=bound, sense=AT_LEAST))
                lines.append(compare(theirs, rates, floor, sense=AT_LEAST))
    for server in (OURS, *map(str, PEERS)):
        if rounds.has(server, ASKED_AT):
            costs, floor = rounds.costs, cost_of(ECHO, ASKED_AT)
            lines.append(compare(cost_of(server, ASKED_AT), costs, floor, sense=AT_MOST))
    return lines


def measure(effort: Effort) -> Finding:
    """Measure under load."""
    title = "The server under load"
    sizes = effort.sizes(IN_FLIGHT)
    peers = [peer for peer in PEERS if not peer.missing]
    rounds = Rounds()
    with contextlib.ExitStack() as stack:
        try:
            load = stack.enter_context(generator(short=effort.short))
        except CannotRunError as error:
            return Finding("load", title, skipped=str(error))
        sidecar = stack.enter_context(ours())
        servers = {OURS: sidecar, ECHO: stack.enter_context(echo_of(sidecar))}
        servers |= {str(peer): stack.enter_context(running(peer)) for peer in peers}
        as_they_come = {str(peer) for peer in peers if not peer.quiet}
        for number in range(effort.rounds + 1):
            for size in sizes:
                for name, server in servers.items():
                    if name in as_they_come and size != ASKED_AT:
                        continue
                    rate, cost_us, _ = load.press(server, size)
                    if number:
                        rounds.add(name, size, rate, cost_us)
    notes = [peer.missing for peer in PEERS if peer.missing]
    return Finding("load", title, lines_of(rounds, sizes), notes=notes)
