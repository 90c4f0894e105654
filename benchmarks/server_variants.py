"""What was tried to let the server take more, beside the server as it is, in turns.

    python benchmarks/server_variants.py [--rounds N] [--in-flight N ...]

The changes are in changed_sidecar.py. Two processes that share a port run without one; uvloop is left out
where it is not installed.
"""

import argparse
import contextlib
import importlib.util
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from echo import free_port
from finding import AT_LEAST, Finding, compare, table_of
from measure_load import Generator, Rounds, cost_of, generator, rate_of
from v2_servers import MODELS, Server, started

SCRIPT: Final = Path(__file__).resolve().parent / "changed_sidecar.py"
PLAIN: Final = "as it is"
VARIANTS: Final = {PLAIN: "none", "with uvloop": "uvloop", "batched": "batched"}
TWO: Final = "two processes on one port"


@contextlib.contextmanager
def changed(change: str, port: int) -> Iterator[Server]:
    """Run our sidecar with a change; a Unix socket tells of each by itself whether it is ready."""
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        own = f"unix:{folder}/s.sock"
        serve = ["serve", "--models", str(MODELS), "--listen", address, "--listen", own, "--http", "off"]
        serve += ["--transport", "grpcio"]
        command = [sys.executable, str(SCRIPT), change, *serve, "--state", f"{folder}/state"]
        with started(command, own) as server:
            yield replace(server, address=address)


@contextlib.contextmanager
def all_variants() -> Iterator[dict[str, list[Server]]]:
    """Run each variant; its processes by its name."""
    with contextlib.ExitStack() as stack:
        variants = {
            name: [stack.enter_context(changed(change, free_port()))]
            for name, change in VARIANTS.items()
            if change != "uvloop" or importlib.util.find_spec("uvloop")
        }
        port = free_port()
        variants[TWO] = [stack.enter_context(changed("shared-port", port)) for _ in range(2)]
        yield variants


def press(load: Generator, servers: Sequence[Server], in_flight: int) -> tuple[float, float]:
    """Return requests a second, and the processor time of all the servers for each."""
    others_us = sum(server.cpu_us() for server in servers[1:])
    rate, cost_us, requests = load.press(servers[0], in_flight)
    others_us = sum(server.cpu_us() for server in servers[1:]) - others_us
    return rate, cost_us + others_us / requests


def measure(rounds: int, loads: Sequence[int], *, short: bool = False) -> Finding:
    """Measure all, in an order of its own each round; one round before is not counted."""
    kept = Rounds()
    with generator(short=short) as load, all_variants() as variants:
        for number in range(rounds + 1):
            for in_flight in loads:
                for name in random.sample(list(variants), len(variants)):
                    rate, cost_us = press(load, variants[name], in_flight)
                    if number:
                        kept.add(name, in_flight, rate, cost_us)
        names = [name for name in variants if name != PLAIN]
    lines = []
    for in_flight in loads:
        floor = rate_of(PLAIN, in_flight)
        lines += [compare(rate_of(name, in_flight), kept.rates, floor, sense=AT_LEAST) for name in names]
        floor = cost_of(PLAIN, in_flight)
        lines += [compare(cost_of(name, in_flight), kept.costs, floor) for name in names]
    return Finding("server_variants", "What was tried for the server's throughput", lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    print(table_of([measure(options.rounds, options.in_flight)]))


if __name__ == "__main__":
    main()
