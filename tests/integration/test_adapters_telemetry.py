"""ONNX Runtime tells nobody what is served."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_files import score_model

LOADS = {
    "the sidecar's session": "from inference_server.adapters.onnx_session import OnnxSession as load",
    "vetting": "from inference_server.adapters.vetting import vet; load = lambda model: vet(model, 'm')",
    "the export": "import model_export; from model_export.parity import ConvertedModel; "
    "from inference_server.adapters.onnx_session import OnnxSession as load",
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
def test_nothing_is_collected(tmp_path: Path, load: str) -> None:
    """Loading a model leaves no device id, no event database and no session file behind."""
    model = tmp_path / "model.onnx"
    model.write_bytes(score_model("momentum"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
    code = f"import sys; {load}; load(open(sys.argv[1], 'rb').read())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [str(path) for path in home.rglob("*")] == []
