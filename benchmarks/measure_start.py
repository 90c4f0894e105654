"""What starts cost: from start to ready with ten models, beside importing what nobody can do without.

Each start is a process of its own, files in the page cache, and its time is told from outside. The floors are
processes too: `python -c "import ..."`, with Python's own start in them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import Effort
from finding import Finding, compare
from interleaved import interleave_measures
from many_models import make_models
from sidecar_process import sidecar_process

MODELS: Final = 10
READY: Final = f"sidecar, start to ready with {MODELS} models"
LIBRARIES: Final = "import onnxruntime, grpc, numpy"
CLIENT: Final = "import strategy_client"
CLIENT_WHOLE: Final = "import strategy_client, its runner and its client"
BASE: Final = "import grpc, numpy"
PYTHON: Final = "python, nothing imported"
SERVER_HELP: Final = "inference-server --help"
CLIENT_HELP: Final = "strategy-client --help"
NS_PER_MS: Final = 1_000_000


def run_ms(*arguments: str) -> float:
    """Run Python with these arguments; return the milliseconds until it ended."""
    began_ns = time.perf_counter_ns()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
    return (time.perf_counter_ns() - began_ns) / NS_PER_MS


def ready_ms(models: Path) -> float:
    """Start a sidecar; return the milliseconds until it said that it is ready, and end it."""
    began_ns = time.perf_counter_ns()
    with sidecar_process(models):
        return (time.perf_counter_ns() - began_ns) / NS_PER_MS


def measure(effort: Effort) -> Finding:
    """Measure starts."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        make_models(models, [f"m{number}" for number in range(2 if effort.short else MODELS)])
        starts: dict[str, Callable[[], float]] = {
            PYTHON: lambda: run_ms("-c", "pass"),
            LIBRARIES: lambda: run_ms("-c", LIBRARIES),
            READY: lambda: ready_ms(models),
            BASE: lambda: run_ms("-c", BASE),
            CLIENT: lambda: run_ms("-c", CLIENT),
            CLIENT_WHOLE: lambda: run_ms("-c", "from strategy_client import InferenceClient, StrategyRunner"),
            SERVER_HELP: lambda: run_ms("-m", "inference_server", "--help"),
            CLIENT_HELP: lambda: run_ms("-c", "from strategy_client.cli import main; main()", "--help"),
        }
        series = interleave_measures(starts, effort.rounds, "ms")
    return Finding(
        "start",
        "From start to ready, and imports",
        [
            compare(READY, series, LIBRARIES, bound=1.5),
            compare(CLIENT, series, BASE, bound=1.2),
            compare(CLIENT_WHOLE, series, BASE),
            compare(SERVER_HELP, series, LIBRARIES),
            compare(CLIENT_HELP, series, BASE),
            compare(PYTHON, series, LIBRARIES),
        ],
    )
