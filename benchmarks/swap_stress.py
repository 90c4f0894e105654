"""Replace, add and remove versions a thousand times under sustained predictions: does any call fail or lie.

    python benchmarks/swap_stress.py [--swaps N] [--rounds N] [--mix-swaps N] [--check]     # or: make stress

Four client processes ask two models in turn at a steady rate, each in its own way: Predict, PredictStream,
ModelInfer and ModelStreamInfer. Every answer is checked against the version that it names: the digest must be
that version's file, the numbers what that version's estimator answers. One model is a file that is replaced
(renamed into place, copied over the live one); of the other, versions are added, retired and removed. Beside
them an onlooker asks for descriptions, metadata, the index, readiness and metrics, all the time.

Rounds of swaps, each as soon as the one before is served, alternate with idle time of the same length and
load, so that the machine's own noise hits both; the tail of the one is given beside that of the other. Then
comes the mix: swaps go on while clients that give up after milliseconds ask too, others are killed as they
ask, and versions are removed under calls in flight.

Exit 1 if a call failed, an answer was not wholly of the version that it named, or a look was answered
wrongly; with --check also if the tail or the growth is not as it should be.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client_processes import Asked, ClientProcess, CrashingClients, client_processes
from expectation import Expectation
from forests import expectation_of, make_forests
from onlooker import Onlooker
from operator_moves import SERVED_VERSIONS, ReplacedModel, VersionedModel
from process_size import Size
from rich.console import Console
from sidecar_process import SidecarProcess, sidecar_process
from stress_client import KINDS
from stress_report import Came, exit_code, figures, missed, show, wrongs

OUT: Final = Path("build/benchmarks/swap_stress.json")
REPLACED, VERSIONED = "replaced", "versioned"
RATE_HZ: Final = 100.0
LOOKS_HZ: Final = 40.0
SWAP_TIMEOUT_S: Final = 30.0
SAMPLE_EVERY_SWAPS: Final = 5
PIPED_WIDTH: Final = 140
IMPATIENT_KINDS: Final = ("Predict", "ModelInfer")
IMPATIENT_S: Final = 0.0015


@dataclass(frozen=True, slots=True)
class StressOptions:
    """How much: `swaps` in `rounds` with idle time after each, then `mix_swaps` in the mix.

    The versions of the model in folders have more trees, so that calls of many rows outlast a removal.
    """

    swaps: int = 1000
    rounds: int = 20
    mix_swaps: int = 200
    warm_up_s: float = 3.0
    versions: int = 10
    replaced_trees: int = 10
    versioned_trees: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= self.swaps or self.mix_swaps < 0:
            raise ValueError(f"expected at least one round and a swap in each, came {self}")


class Stress:
    """One run: a sidecar, who asks it, and who changes its files."""

    def __init__(self, folder: Path, options: StressOptions) -> None:
        self._options = options
        forests = {
            REPLACED: make_forests(folder, REPLACED, trees=options.replaced_trees, versions=options.versions),
            VERSIONED: make_forests(
                folder, VERSIONED, trees=options.versioned_trees, versions=options.versions
            ),
        }
        self._expectation: Expectation = expectation_of(
            forests, options.swaps + options.mix_swaps + SERVED_VERSIONS
        )
        self._models = folder / "models"
        self._facts = folder / "expectation.json"
        self._expectation.write(self._facts)
        self._config = folder / "sidecar.toml"
        self._config.write_text(
            f'[model.{VERSIONED}]\nversions = "latest {SERVED_VERSIONS}"\n', encoding="utf-8"
        )
        self._replaced = ReplacedModel(self._models, REPLACED, forests[REPLACED])
        self._versioned = VersionedModel(self._models, VERSIONED, forests[VERSIONED])
        self._moves = 0
        self._taken_ms: dict[str, list[float]] = {}

    def run(self) -> Came:
        """Run it; return what was seen."""
        with contextlib.ExitStack() as stack:
            sidecar = stack.enter_context(sidecar_process(self._models, "--config", str(self._config)))
            models = (REPLACED, VERSIONED)
            onlooker = Onlooker(
                sidecar.target, sidecar.http_address(), models, self._expectation, rate_hz=LOOKS_HZ
            )
            stack.enter_context(onlooker.looking())
            asked = Asked(sidecar.target, models, RATE_HZ, self._facts)
            clients = stack.enter_context(client_processes(KINDS, asked))
            _begin(clients, "warm-up")
            time.sleep(self._options.warm_up_s)  # clients ask on meanwhile
            came = Came(0, self._taken_ms, [Size.of(sidecar.pid, 0)], {}, onlooker)
            try:
                self._alternate(sidecar, clients, came)
                impatient = self._mix(sidecar, asked, clients, came)
            except TimeoutError:
                sys.stderr.write(sidecar.tail())
                raise
            came.clients = {client.kind: client.end() for client in clients} | impatient
            return came

    def _alternate(self, sidecar: SidecarProcess, clients: list[ClientProcess], came: Came) -> None:
        for number in range(self._options.rounds):
            _begin(clients, f"swaps {number}")
            began_s = time.monotonic()
            until = self._options.swaps * (number + 1) // self._options.rounds
            while self._moves < until:
                self._swap(came)
                if self._moves % SAMPLE_EVERY_SWAPS == 0:
                    came.sizes.append(Size.of(sidecar.pid, self._moves))
            _begin(clients, f"idle {number}")
            time.sleep(time.monotonic() - began_s)  # as long as the swaps took

    def _mix(
        self, sidecar: SidecarProcess, asked: Asked, clients: list[ClientProcess], came: Came
    ) -> dict[str, dict[str, dict[str, object]]]:
        """Swap among clients that misbehave; return what the impatient ones saw."""
        if not self._options.mix_swaps:
            return {}
        crashing = CrashingClients(KINDS, asked)
        with client_processes(IMPATIENT_KINDS, asked, IMPATIENT_S) as impatient, crashing.crashing():
            _begin([*clients, *impatient], "mix")
            for _ in range(self._options.mix_swaps):
                if version := self._next_removed():
                    came.removed.check(
                        sidecar.target, VERSIONED, version, self._expectation, lambda: self._swap(came)
                    )
                else:
                    self._swap(came)
            seen = {f"{client.kind}, impatient": client.end() for client in impatient}
        came.killed_clients = crashing.killed
        came.after_mix = Size.of(sidecar.pid, self._moves)
        return seen

    def _next_removed(self) -> int:
        return self._versioned.next_removed if self._moves % 2 else 0

    def _swap(self, came: Came) -> None:
        began_s = time.perf_counter()
        move = (self._versioned if self._moves % 2 else self._replaced).move()
        came.onlooker.wait_served(move.model, move.version, SWAP_TIMEOUT_S)
        self._taken_ms.setdefault(move.what, []).append((time.perf_counter() - began_s) * 1e3)
        self._moves += 1
        came.swaps = self._moves


def _begin(clients: list[ClientProcess], phase: str) -> None:
    for client in clients:
        client.begin(phase)


def main() -> None:
    """Run the stress, print the report, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    defaults = StressOptions()
    parser.add_argument("--swaps", type=int, default=defaults.swaps)
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--mix-swaps", type=int, default=defaults.mix_swaps)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target of speed or size is missed")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        came = Stress(
            Path(folder), StressOptions(arguments.swaps, arguments.rounds, arguments.mix_swaps)
        ).run()
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    show(came, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures(came), indent=1) + "\n", encoding="utf-8")
    for text in [*wrongs(came), *missed(came)]:
        console.print(text, style="red", markup=False)
    sys.exit(exit_code(came, check=arguments.check))


if __name__ == "__main__":
    main()
