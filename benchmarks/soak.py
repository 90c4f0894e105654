"""An hour of callers of every kind, good and bad, while a model is replaced: what fails, crashes or grows.

    python benchmarks/soak.py [--minutes N] [--transport auto|grpcio|h2]     # or: make soak

A sidecar process on a Unix socket and on loopback. On each, well-behaved callers (grpcio's unary calls and
streams, InferenceClient by h2 and by grpcio, tritonclient) ask at a steady rate and check every answer
against the version that it names. Beside them others stall, reset, flood, talk nonsense and vanish
(`soak_hostile.py`), and well-behaved ones are killed with calls in flight. A model's file is replaced every
few seconds. Each minute a line says what was seen. At the end all callers leave: calls in flight, and
descriptors beyond those at the start, are leaks.

Exit 1 if a call of the well-behaved failed or an answer was wrong, if the sidecar crashed, logged a bug,
leaked or grew.
"""

import argparse
import contextlib
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from expectation import Expectation
from forests import expectation_of, make_forests
from operator_moves import ReplacedModel
from process_size import Size
from sidecar_process import SidecarProcess, sidecar_process
from soak_memory import Memory, scraped
from soak_report import MAX_LEFT, Soaked, State, problems, told

from strategy_client import InferenceClient

OUT: Final = Path("build/benchmarks/soak.json")
MODELS: Final = ("soaked", "steady")
HERE: Final = Path(__file__).parent
RATE_HZ: Final = 8.0
SAMPLE_S: Final = 2.0
REPORT_S: Final = 60.0
SWAP_S: Final = 5.0
KILLED_AFTER_S: Final = 4.0
KILLED_EVERY_S: Final = 15.0
LEFT_S: Final = 30.0
SWAP_TIMEOUT_S: Final = 60.0
# What a log says only of a bug.
BUG: Final = re.compile(r"Traceback|internal error| ERROR | CRITICAL |Exception in callback|never retrieved")


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """How long, and by which transport; a model of `versions` that differ by their answers is replaced."""

    minutes: float = 60.0
    transport: str = "auto"
    versions: int = 4
    trees: int = 10


class Caller:
    """A process that tells a JSON object a second, until its standard input ends."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.last: dict[str, Any] = {}
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL, in the middle of whatever it does."""
        self._process.kill()
        self.end()

    def end(self) -> None:
        """Let it end, and wait for that; killed where it does not."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(LEFT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self.last = json.loads(line)


class Soak:
    """One run: a sidecar, its callers, and who replaces a model."""

    def __init__(self, folder: Path, options: SoakOptions, tell: Callable[[str], None]) -> None:
        self._options = options
        self._tell = tell
        self._models = folder / "models"
        self._facts = folder / "expectation.json"
        forests = {
            name: make_forests(folder, name, trees=options.trees, versions=options.versions)
            for name in MODELS
        }
        releases = int(options.minutes * 60 / SWAP_S) + 2
        expectation: Expectation = expectation_of(forests, releases)
        expectation.write(self._facts)
        self._replaced = ReplacedModel(self._models, MODELS[0], forests[MODELS[0]])
        ReplacedModel(self._models, MODELS[1], forests[MODELS[1]])
        self._releases = releases
        self._swaps = 0
        self._killed = 0

    def run(self) -> Soaked:
        """Run it; return what was seen."""
        arguments = ("--listen", "127.0.0.1:0", "--transport", self._options.transport)
        with sidecar_process(self._models, *arguments) as sidecar:
            targets = (sidecar.target, _port(sidecar))
            self._warm(targets)
            before = Size.of(sidecar.pid, 0)
            began_s = time.monotonic()
            soaked = Soaked(self._options.minutes, before, [])
            stopped = threading.Event()
            jobs = [threading.Thread(target=job, args=(sidecar, stopped)) for job in (self._swap, self._kill)]
            with self._callers(targets) as (good, bad):
                for job in jobs:
                    job.start()
                try:
                    self._watch(sidecar, began_s, soaked, (good, bad))
                finally:
                    stopped.set()
                    for job in jobs:
                        job.join()
                soaked.crashed = sidecar.process.poll() is not None or not all(
                    c.running for c in (*good, *bad)
                )
            soaked.states.append(self._state(sidecar, began_s, (good, bad)))
            if not soaked.crashed:
                soaked.left = self._left(sidecar, before)
                soaked.in_flight = _in_flight(sidecar)
            soaked.log_tail = sidecar.tail()
            return soaked

    @contextlib.contextmanager
    def _callers(self, targets: tuple[str, ...]) -> Iterator[tuple[list[Caller], list[Caller]]]:
        with contextlib.ExitStack() as stack:
            facts = str(self._facts)
            good = [
                stack.enter_context(Caller("soak_client.py", target, ",".join(MODELS), str(RATE_HZ), facts))
                for target in targets
            ]
            bad = [
                stack.enter_context(Caller("soak_hostile.py", target, MODELS[1], target))
                for target in targets
            ]
            yield good, bad

    def _watch(
        self,
        sidecar: SidecarProcess,
        began_s: float,
        soaked: Soaked,
        callers: tuple[list[Caller], list[Caller]],
    ) -> None:
        end_s = began_s + self._options.minutes * 60
        report_s = began_s + REPORT_S
        while (now_s := time.monotonic()) < end_s:
            if sidecar.process.poll() is not None:
                return
            soaked.states.append(self._state(sidecar, began_s, callers))
            if now_s >= report_s:
                report_s += REPORT_S
                self._tell(told(soaked))
            time.sleep(min(SAMPLE_S, max(end_s - now_s, 0.0)))  # a sample every so often

    def _state(
        self, sidecar: SidecarProcess, began_s: float, callers: tuple[list[Caller], list[Caller]]
    ) -> State:
        good, bad = callers
        seconds = round(time.monotonic() - began_s)
        seen = [(kind, kinds) for client in good for kind, kinds in client.last.items()]
        hostile: dict[str, int] = {}
        for way, times in itertools.chain.from_iterable(client.last.items() for client in bad):
            hostile[way] = hostile.get(way, 0) + times
        kinds: dict[str, int] = {}
        for kind, one in seen:
            kinds[kind] = kinds.get(kind, 0) + one["answered"]
        alive = sidecar.process.poll() is None
        return State(
            seconds,
            kinds,
            sum(one["failed"] for _, one in seen),
            sum(one["wrong"] for _, one in seen),
            max([one["slowest_ms"] for _, one in seen], default=0.0),
            [f"{kind}: {fault}" for kind, one in seen for fault in one["faults"]],
            hostile,
            self._swaps,
            self._killed,
            len(BUG.findall(sidecar.log_text())),
            Size.of(sidecar.pid, seconds) if alive else None,
            Memory.of(sidecar.pid, sidecar.http_address()) if alive else None,
        )

    @staticmethod
    def _warm(targets: tuple[str, ...]) -> None:
        for target in targets:
            for transport in ("grpcio", "h2"):
                with InferenceClient(target, transport=transport) as client:
                    client.wait_ready(LEFT_S)

    def _swap(self, sidecar: SidecarProcess, stopped: threading.Event) -> None:
        with InferenceClient(sidecar.target) as client:
            while not stopped.wait(SWAP_S) and self._swaps + 2 < self._releases:
                move = self._replaced.move()
                end_s = time.monotonic() + SWAP_TIMEOUT_S
                while not stopped.is_set() and time.monotonic() < end_s:
                    if (
                        client.describe([move.model], SWAP_TIMEOUT_S).models[move.model].default_version
                        == move.version
                    ):
                        self._swaps += 1
                        break
                    stopped.wait(0.1)

    def _kill(self, sidecar: SidecarProcess, stopped: threading.Event) -> None:
        targets = itertools.cycle((sidecar.target, _port(sidecar)))
        while not stopped.wait(KILLED_EVERY_S - KILLED_AFTER_S):
            client = Caller("soak_client.py", next(targets), ",".join(MODELS), "50", str(self._facts))
            stopped.wait(KILLED_AFTER_S)
            client.kill()
            self._killed += 1

    @staticmethod
    def _left(sidecar: SidecarProcess, before: Size) -> Size:
        end_s = time.monotonic() + LEFT_S
        while True:
            size = Size.of(sidecar.pid, 0)
            if size.descriptors <= before.descriptors + MAX_LEFT["descriptors"] or time.monotonic() > end_s:
                return size
            time.sleep(SAMPLE_S)  # a process outside has no event to wait for


def _port(sidecar: SidecarProcess) -> str:
    match = re.search(r"listening on .*(127\.0\.0\.1:\d+)", sidecar.log_text())
    if match is None:
        raise RuntimeError(f"the sidecar listens on no port\n{sidecar.tail()}")
    return match[1]


def _in_flight(sidecar: SidecarProcess) -> int:
    told = scraped(sidecar.http_address())
    return sum(int(count) for name, count in told.items() if name.startswith("tickserve_rpcs_in_flight{"))


def main() -> None:
    """Run the soak, print a line a minute and the verdict, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    defaults = SoakOptions()
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--transport", default=defaults.transport)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        options = SoakOptions(arguments.minutes, arguments.transport)
        soaked = Soak(Path(folder), options, lambda line: print(line, flush=True)).run()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(soaked.to_json(), indent=1) + "\n", encoding="utf-8")
    print(told(soaked))
    found = problems(soaked)
    for text in found:
        print(f"WRONG: {text}")
    verdict = f"not good, {len(found)} wrong" if found else "good"
    print(f"verdict: {verdict}, after {arguments.minutes:g} min")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
