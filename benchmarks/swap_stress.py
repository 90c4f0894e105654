"""Replace a model's file a thousand times under sustained predictions: does any call fail or lie.

    python benchmarks/swap_stress.py [--swaps N] [--out FILE.json]     # or: make stress

Four client processes ask one model at a steady rate, each in its own way: Predict, PredictStream, ModelInfer
and ModelStreamInfer. Every answer is checked against the version that it names: the digest must be that
version's file, the number what that version's estimator answers. First nobody swaps (idle), then the file is
replaced by rename again and again (swaps), each as soon as the one before is served. Exit 1 if a call
failed or an answer was not of the version that it named.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from forests import Forest, make_forests, put
from stress_client import KINDS

from strategy_client import InferenceClient
from strategy_client.replay.sidecar import OwnSidecar

MODEL: Final = "stressed"
VERSIONS: Final = 10
TREES: Final = 10
RATE_HZ: Final = 100.0
SWAP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.005
WARM_UP_S: Final = 2.0
SAMPLE_EVERY_SWAPS: Final = 20
# The first swaps fill caches and pools; a slope is taken after them.
SETTLING_PART: Final = 0.2


@dataclass(frozen=True, slots=True)
class Size:
    """How large the sidecar's process is after so many swaps."""

    swaps: int
    resident_mib: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int, swaps: int) -> "Size":
        """Read it from the kernel."""
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(swaps, int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"]), descriptors)


@contextlib.contextmanager
def client_processes(target: str, facts: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a client of each kind."""
    script = Path(__file__).with_name("stress_client.py")
    clients = [
        subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(script), kind, target, MODEL, str(RATE_HZ), str(facts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in KINDS
    ]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n"
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.wait()
            for stream in (client.stdin, client.stdout):
                if stream is not None:
                    stream.close()


def begin(phase: str, clients: Sequence[subprocess.Popen[str]]) -> None:
    """Tell every client that a phase begins."""
    for client in clients:
        assert client.stdin is not None
        client.stdin.write(phase + "\n")
        client.stdin.flush()


def swap(sidecar: OwnSidecar, client: InferenceClient, forest: Forest) -> float:
    """Replace the file and wait until it is what callers get; return how long that took, in milliseconds."""
    began_s = time.perf_counter()
    put(sidecar.models / f"{MODEL}.onnx", forest.content)
    while True:
        model = client.describe((MODEL,)).models[MODEL]
        if model.default_version == forest.version:
            return (time.perf_counter() - began_s) * 1e3
        if time.perf_counter() - began_s > SWAP_TIMEOUT_S:
            raise RuntimeError(f"version {forest.version} is not served: {model.problem}\n{sidecar.tail()}")
        time.sleep(POLL_S)  # to ask without a pause would be a load of its own


def stress(swaps: int, idle_s: float) -> dict[str, Any]:
    """Run it; return what was seen."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        forests = make_forests(folder, MODEL, trees=TREES, versions=VERSIONS)
        facts = folder / "facts.json"
        facts.write_text(
            json.dumps({f.version: {"digest": f.digest, "answers": f.answers.tolist()} for f in forests})
        )
        sidecar = stack.enter_context(OwnSidecar(folder))
        client = stack.enter_context(InferenceClient(sidecar.target))
        sidecar.wait_ready(client)
        assert sidecar.pid is not None
        clients = stack.enter_context(client_processes(sidecar.target, facts))
        begin("warm-up", clients)
        time.sleep(WARM_UP_S)  # clients ask on meanwhile
        begin("idle", clients)
        time.sleep(idle_s)  # the same
        begin("swaps", clients)
        sizes, taken_ms = [Size.of(sidecar.pid, 0)], []
        for number in range(1, swaps + 1):
            taken_ms.append(swap(sidecar, client, forests[number % VERSIONS]))
            if number % SAMPLE_EVERY_SWAPS == 0:
                sizes.append(Size.of(sidecar.pid, number))
        seen = {}
        for kind, process in zip(KINDS, clients, strict=True):
            seen[kind] = json.loads(process.communicate(timeout=SWAP_TIMEOUT_S)[0])
    return {"swaps": swaps, "taken_ms": taken_ms, "sizes": sizes, "clients": seen}


def slope(sizes: Sequence[Size], name: str) -> float:
    """Return the growth per 1,000 swaps, by least squares, after the settling part."""
    steady = [size for size in sizes if size.swaps >= SETTLING_PART * sizes[-1].swaps]
    if len(steady) < 2:
        return float("nan")
    return float(np.polyfit([s.swaps for s in steady], [getattr(s, name) for s in steady], 1)[0] * 1000)


def report(came: dict[str, Any]) -> bool:
    """Print what was seen; whether no call failed and no answer lied."""
    good = True
    print(
        f"{'client':<18}{'phase':<8}{'calls':>8}{'failed':>8}{'mixed':>7}"
        f"{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}"
    )
    pooled: dict[str, list[float]] = {"idle": [], "swaps": []}
    for kind, phases in came["clients"].items():
        for name in ("idle", "swaps"):
            phase = phases[name]
            pooled[name] += phase["latency_us"]
            p50, p99, p999 = np.percentile(phase["latency_us"], [50, 99, 99.9])
            print(
                f"{kind:<18}{name:<8}{phase['calls']:>8,}{phase['failed']:>8}{phase['mixed']:>7}"
                f"{p50:>9.0f}{p99:>9.0f}{p999:>10.0f}"
            )
            good = good and not phase["failed"] and not phase["mixed"]
            for fault in phase["faults"]:
                print(f"    {fault}")
    tails = {name: float(np.percentile(values, 99.9)) for name, values in pooled.items()}
    print(
        f"99.9th percentile of all calls: idle {tails['idle']:.0f} us, swaps {tails['swaps']:.0f} us, "
        f"ratio {tails['swaps'] / tails['idle']:.2f}"
    )
    print(
        f"{came['swaps']:,} swaps; from rename to served: median {np.median(came['taken_ms']):.0f} ms, "
        f"longest {max(came['taken_ms']):.0f} ms"
    )
    first, last = came["sizes"][0], came["sizes"][-1]
    for name, unit in (("resident_mib", "MiB"), ("threads", "threads"), ("descriptors", "descriptors")):
        print(
            f"{name}: {getattr(first, name):.0f} before, {getattr(last, name):.0f} after; "
            f"slope {slope(came['sizes'], name):+.2f} {unit} per 1,000 swaps"
        )
    return good


def main() -> None:
    """Run the stress, print the report, keep the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    came = stress(arguments.swaps, arguments.idle_s)
    if arguments.out is not None:
        arguments.out.write_text(
            json.dumps(came, default=lambda size: [size.swaps, size.resident_mib]) + "\n"
        )
    sys.exit(0 if report(came) else 1)


if __name__ == "__main__":
    main()
