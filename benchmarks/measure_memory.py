"""How large the processes are: the sidecar by models served, the client by strategies.

Resident size and, since processes share what they map, proportional size (PSS), at rest and once each model
was asked. A sidecar's is its server's alone; its two vetting processes stand on a line of their own. The same
bytes are one file under several versions of one model; different bytes are one small forest under many names.
A size has no rounds; each process is started anew, and measured once.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from bench import Effort
from finding import Finding, Line, compare
from interleaved import Series
from many_models import FEATURES, make_copies
from sidecar_process import sidecar_process

from strategy_client import InferenceClient
from strategy_client.predictor.description import VersionDescription, VersionState

MODELS: Final = [1, 50, 1_000]
STRATEGIES: Final = [1, 1_000]
LOAD_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.1
KIB_A_MIB: Final = 1_024
ROW: Final = np.full((1, len(FEATURES)), 1e-4, dtype=np.float32)
VERSIONS: Final = "m0"
CLIENT: Final = Path(__file__).with_name("learned_client.py")
# What a server and a client cannot do without, and what stands beside them.
LIBRARIES: Final = {
    "onnxruntime, grpc, numpy": "onnxruntime, grpc and numpy imported",
    "grpc, numpy": "grpc and numpy imported",
}
KINDS: Final = ("resident", "PSS")


def sizes_mib(pid: int) -> tuple[float, float]:
    """Return the resident and the proportional size of a process."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    )
    return int(fields["Rss"].split()[0]) / KIB_A_MIB, int(fields["Pss"].split()[0]) / KIB_A_MIB


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


class Sizes:
    """What was measured, by what a line says."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}

    def add(self, name: str, pid: int) -> None:
        """Measure a process."""
        for kind, size_mib in zip(KINDS, sizes_mib(pid), strict=True):
            self.series[f"{name}, {kind}"] = Series("MiB", [size_mib])


@contextlib.contextmanager
def waiting(*arguments: str) -> Iterator[int]:
    """Run Python with these arguments until it writes a line, and then for this block; give its id."""
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError(f"it ended: {arguments}")
            yield process.pid
        finally:
            process.kill()


def fill(folder: Path, count: int, *, same: bool) -> None:
    """Write so many models: different ones, or versions of one with the same bytes."""
    names = [VERSIONS] if same else [f"m{number}" for number in range(count)]
    make_copies(folder, names)
    if same:
        content = (folder / f"{VERSIONS}.onnx").read_bytes()
        (folder / f"{VERSIONS}.onnx").unlink()
        for version in range(1, count + 1):
            place = folder / VERSIONS / str(version) / "model.onnx"
            place.parent.mkdir(parents=True)
            place.write_bytes(content)


def measure_sidecar(sizes: Sizes, count: int, *, same: bool) -> None:
    """Measure a sidecar of so many models, each of which was asked."""
    told = f"sidecar, {count:,} of {'the same' if same else 'different'} bytes"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, count, same=same)
        config = folder / "all.toml"
        config.write_text(f'[model.{VERSIONS}]\nversions = "all"\n' if same else "", encoding="utf-8")
        with sidecar_process(folder, "--config", str(config)) as sidecar:
            with InferenceClient(sidecar.target) as client:
                ask_all(client)
            sizes.add(told, sidecar.pid)
            vetting = [sizes_mib(pid) for pid in children(sidecar.pid)]
            sizes.series[f"{told}, its vetting processes, PSS"] = Series(
                "MiB", [sum(pss for _, pss in vetting)]
            )


def ask_all(client: InferenceClient) -> None:
    """Ask each version of each model for one row, once all are served; a model is ready with its first."""
    end_s = time.monotonic() + LOAD_TIMEOUT_S
    while any(version.state is not VersionState.AVAILABLE for _, version in versions(client)):
        if time.monotonic() > end_s:
            raise RuntimeError(f"not every version is served after {LOAD_TIMEOUT_S:g} s")
        time.sleep(POLL_S)  # a process outside has no event to wait for
    for name, version in versions(client):
        client.predict(name, ROW, version=version.version, timeout_s=10)


def versions(client: InferenceClient) -> list[tuple[str, VersionDescription]]:
    """Return the versions of all models."""
    models = client.describe().models.values()
    return [(model.name, version) for model in models for version in model.versions]


def measure_clients(sizes: Sizes, counts: list[int]) -> None:
    """Measure clients of so many learned strategies on one instrument, after some ticks."""
    with tempfile.TemporaryDirectory() as name:
        make_copies(Path(name), [VERSIONS])
        with sidecar_process(Path(name)) as sidecar:
            for count in counts:
                with waiting(str(CLIENT), sidecar.target, VERSIONS, str(count), *FEATURES) as pid:
                    sizes.add(told_client(count), pid)


def told_client(count: int) -> str:
    """Return what the line of a client says."""
    return f"client, {count:,} learned strategies"


def measure(effort: Effort) -> Finding:
    """Measure sizes."""
    sizes = Sizes()
    counts, strategies = MODELS[:1] if effort.short else MODELS, effort.sizes(STRATEGIES)
    for libraries, told in LIBRARIES.items():
        with waiting("-c", f"import {libraries}, sys; print(flush=True); sys.stdin.read()") as pid:
            sizes.add(told, pid)
    for count in counts:
        for same in (True, False):
            measure_sidecar(sizes, count, same=same)
    measure_clients(sizes, strategies)
    server, client = LIBRARIES.values()
    lines = []
    for kind in KINDS:
        floors = {side: f"{told}, {kind}" for side, told in (("sidecar", server), ("client", client))}
        lines += [Line(floor, sizes.series[floor]) for floor in floors.values()]
        lines += [
            compare(name, sizes.series, floor)
            for side, floor in floors.items()
            for name in sizes.series
            if name.startswith(side) and name.endswith(kind)
        ]
    return Finding(
        "memory",
        "Size of the processes",
        lines,
        notes=["a size is measured once, so that a ratio has no range"],
    )
