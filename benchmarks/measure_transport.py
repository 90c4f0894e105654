"""Our transport for this machine, `h2`, beside grpcio: the same sidecar, the same model, two transports.

Under load by `perf_analyzer` over TCP on loopback; one row and a tick by our own client over the Unix socket,
each side by the transport that is measured.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import tests_path  # noqa: F401 - makes the tests' programs importable
from answered import outcomes_of
from bench import Effort
from echo import echo_server, unary_call
from fetched import CannotRunError
from finding import AT_LEAST, AT_MOST, Finding, Line, compare
from interleaved import Series, Subject, interleave
from many_models import make_models
from measure_load import generator
from measure_tick import ECHO, ONE, runner_on
from sidecar_process import sidecar_process
from v2_servers import MODEL, WIDTH, ours

from strategy_client import InferenceClient
from strategy_client.predictor.port import Question, Refusal

Transport = Literal["h2", "grpcio"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("h2", "grpcio")
IN_FLIGHT: Final = [8, 1, 32]
ASKED_AT: Final = 8
DEADLINE_NS: Final = 5 * 10**9


def told(what: str, transport: Transport) -> str:
    """Return what a line says."""
    return f"{what}, {transport}"


@contextlib.contextmanager
def asking(target: str, transport: Transport) -> Iterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """Give two functions that ask for one row: as a tick does, and by `predict`."""
    row = np.full((1, WIDTH), 1e-4, dtype=np.float32)
    with InferenceClient(target, transport=transport) as client:
        client.wait_ready()

        def ask() -> None:
            [answer] = client.submit([Question(MODEL, row)], time.monotonic_ns() + DEADLINE_NS).result()
            if isinstance(answer, Refusal):
                raise RuntimeError(f"{transport}: {answer}")  # noqa: TRY004 - no caller's mistake

        yield ask, lambda: client.predict(MODEL, row)


def one_row(effort: Effort) -> list[Line]:
    """Measure one row by our client, over the Unix socket."""
    with contextlib.ExitStack() as stack:
        subjects = []
        for transport in TRANSPORTS:
            sidecar = stack.enter_context(ours("--transport", transport))
            submit, predict = stack.enter_context(asking(sidecar.unix, transport))
            subjects += [
                Subject(told("one row, `submit`", transport), submit, effort.calls(400)),
                Subject(told("one row, `predict`", transport), predict, effort.calls(400)),
            ]
        series = interleave(subjects, effort.rounds)
    return [
        compare(told(what, "h2"), series, told(what, "grpcio"), bound=0.4, sense=AT_MOST)
        for what in ("one row, `submit`", "one row, `predict`")
    ]


def tick(effort: Effort) -> tuple[list[Line], str]:
    """Measure a tick of many strategies on one model, beside a bare unary echo by grpcio."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_models(folder, ["m0"])
        sidecar = stack.enter_context(sidecar_process(folder))
        runner, process = stack.enter_context(runner_on(sidecar.target, ["m0"]))
        echo = stack.enter_context(unary_call(stack.enter_context(echo_server()), b"x" * 100))
        subjects = [Subject(ECHO, echo, effort.calls(300)), Subject(ONE, process, effort.calls(300))]
        series = interleave(subjects, effort.rounds)
    return [compare(ONE, series, ECHO, bound=0.5, sense=AT_MOST)], outcomes_of(runner)


def load(effort: Effort) -> list[Line]:
    """Measure under load: requests a second, the latency at the load that is asked for, and its tail."""
    series: dict[str, Series] = {}

    def add(name: str, unit: str, value: float) -> None:
        series.setdefault(name, Series(unit)).values.append(value)

    sizes = effort.sizes(IN_FLIGHT)
    with contextlib.ExitStack() as stack:
        press = stack.enter_context(generator(short=effort.short))
        servers = {name: stack.enter_context(ours("--transport", name)) for name in TRANSPORTS}
        for number in range(effort.rounds + 1):
            for size in sizes:
                for name, server in servers.items():
                    report, cost_us = press.report(server, size)
                    if number:
                        at = f"{size} in flight"
                        add(told(f"requests a second, {at}", name), "/s", report.rate)
                        add(told(f"p50, {at}", name), "us", report.p50_us)
                        add(told(f"p99, {at}", name), "us", report.p99_us)
                        add(told(f"server's processor time a request, {at}", name), "us", cost_us)
    lines = []
    for size in sorted(sizes):
        at, asked = f"{size} in flight", size == ASKED_AT
        rate = f"requests a second, {at}"
        lines.append(
            compare(
                told(rate, "h2"), series, told(rate, "grpcio"), bound=3.0 if asked else None, sense=AT_LEAST
            )
        )
        lines += [
            compare(told(what, "h2"), series, told(what, "grpcio"))
            for what in (f"p50, {at}", f"p99, {at}", f"server's processor time a request, {at}")
        ]
    return lines


def measure(effort: Effort) -> Finding:
    """Measure both transports."""
    lines = one_row(effort)
    ticks, outcomes = tick(effort)
    lines += ticks
    notes = [f"outcomes: {outcomes}"]
    try:
        lines += load(effort)
    except CannotRunError as error:
        notes.append(str(error))
    return Finding("transport", "Our transport beside grpcio", lines, notes=notes)
