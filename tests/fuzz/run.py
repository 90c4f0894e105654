"""Fuzzes one harness, led by coverage, with atheris.

    python tests/fuzz/run.py server|client|grpc [libFuzzer's options and corpora]     # or: make fuzz

What is found is written as a file `crash-…`; `tests/fuzz/test_corpus.py` replays what lies in the corpus.
"""

import gc
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

INSTRUMENTED = ("inference_server.rpc", "strategy_client.predictor")

with atheris.instrument_imports(include=list(INSTRUMENTED)):
    from fuzz.harnesses import HARNESSES


def main() -> None:
    """Fuzz the harness that is named first."""
    name, *options = sys.argv[1:]
    with HARNESSES[name]() as harness:
        gc.disable()
        cases = 0

        def one(raw: bytes) -> None:
            nonlocal cases
            cases += 1
            if cases % 250 == 0:
                gc.collect()
            harness(raw)

        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
