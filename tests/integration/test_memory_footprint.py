"""What vetting says that a model takes, beside what it does take of a server's memory."""

import io
import subprocess
import sys

import numpy as np
import pytest
from onnx_files import score_model
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestRegressor

from inference_server.adapters import footprint
from inference_server.adapters.verdict_text import read_verdict, write_verdict
from inference_server.adapters.vetting import vet
from inference_server.adapters.vetting_child import read_frame, write_frame

MIB = 2**20
COPIES = 6

# A server's way: each file has bytes of its own and is loaded and warmed up by a thread. The first one pays
# what the process pays once.
SERVER = f"""
import sys, threading
from inference_server.adapters.onnx_servable import OnnxLoader
from inference_server.core.servable import ServableId
from pathlib import Path
def resident():
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Anonymous:"))
loader, held = OnnxLoader(), []
def load(digest, path):
    held.append(loader.load(ServableId("m", 1), digest, Path(path).read_bytes(), 0))
for number in range({COPIES} + 1):
    thread = threading.Thread(target=load, args=(str(number), sys.argv[1]))
    thread.start()
    thread.join()
    before = resident() if number == 0 else before
print((resident() - before) // {COPIES})
"""


@pytest.fixture(scope="module")
def forests():
    """Real forests by their number of trees."""
    rows = np.random.default_rng(3).normal(size=(2000, 8)).astype(np.float32)
    made = {}
    for trees in (10, 150):
        forest = RandomForestRegressor(trees, max_depth=9, random_state=3).fit(rows, rows.sum(axis=1))
        made[trees] = to_onnx(forest, rows[:1], target_opset=17).SerializeToString()
    return made


def judged(*models):
    """Return the verdicts of a fresh vetting process, as the server gets them."""
    script = "import sys; from inference_server.adapters import vetting_child as child; child.main()"
    requests = io.BytesIO()
    for model in models:
        write_frame(requests, b"m")
        write_frame(requests, model)
    command = [sys.executable, "-c", script, "60", str(4 * 2**30)]
    done = subprocess.run(command, input=requests.getvalue(), capture_output=True, check=True, timeout=100)
    answers = io.BytesIO(done.stdout)
    assert read_frame(answers) == b"", "it is warm"
    return [read_verdict(read_frame(answers)) for _ in models]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the figure is the file's size")
@pytest.mark.parametrize("trees", [10, 150])
def test_the_figure_is_what_one_more_model_takes_of_a_server(forests, tmp_path, trees):
    """A19: for real forests vetting's figure is within a factor of 2 of what each more takes of a server."""
    model = forests[trees]
    (tmp_path / "model.onnx").write_bytes(model)
    command = [sys.executable, "-c", SERVER, str(tmp_path / "model.onnx")]
    taken = int(subprocess.run(command, capture_output=True, check=True, timeout=100).stdout)
    (said,) = (verdict.memory_bytes for verdict in judged(model))
    assert said > len(model), "it does not fall back to the file's size"
    assert taken / 2 <= said <= taken * 2, f"said {said / MIB:.2f} MiB, taken {taken / MIB:.2f} MiB"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the figure is the file's size")
def test_what_one_file_freed_does_not_hide_what_the_next_one_takes(forests):
    """A19: a small forest that is judged after a big one is said to take what it takes alone."""
    (alone,) = judged(forests[10])
    _, after = judged(forests[150], forests[10])
    assert after.memory_bytes > 0.7 * alone.memory_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the figure is the file's size")
def test_what_a_processs_first_session_costs_is_no_files():
    """A19: the first small file that a child judges is said to take no more than the ones after it."""
    first, *others = (verdict.memory_bytes for verdict in judged(*[score_model(None)] * 4))
    assert first <= 1.5 * max(others)


def test_no_figure_is_below_the_files_size(monkeypatch):
    """A19: where the system does not say what a process holds, a model takes its file's size."""
    monkeypatch.setattr(footprint.ctypes, "CDLL", lambda _: object())
    model = score_model()
    assert footprint.allocated_bytes() is None
    assert vet(model, "momentum").memory_bytes == len(model)


def test_a_file_that_is_not_loaded_takes_nothing_and_one_that_answers_wrongly_does():
    """A19: the figure is there for whatever was loaded, refused or not."""
    assert vet(b"no model", "m").memory_bytes == 0
    verdict = vet(score_model(), "other")
    assert "it is for the model 'momentum'" in verdict.refusal
    assert verdict.memory_bytes >= len(score_model())


def test_the_figure_travels_with_the_verdict():
    """A19: what the vetting process measured is what the server reads."""
    verdict = vet(score_model(), "momentum")
    assert read_verdict(write_verdict(verdict)) == verdict
    assert verdict.memory_bytes > 0
