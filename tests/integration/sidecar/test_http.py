"""The HTTP probes."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from onnx_files import score_model
from sidecars import put, thread_sidecar

from inference_server.rpc.address import Address, AddressError


def get(port: int, path: str) -> int:
    """Return the status of one request."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_probes_follow_readiness(tmp_path: Path) -> None:
    """Live at once; ready, and a model ready, once it is available; not ready while draining (F1)."""
    with thread_sidecar(tmp_path, http=Address(host="127.0.0.1")) as sidecar:
        port = sidecar.sidecar.http_port
        paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/one/ready", "/nowhere")
        assert [get(port, path) for path in paths] == [200, 503, 503, 404]
        put(tmp_path / "one.onnx", score_model("one"))
        sidecar.settle()
        assert [get(port, path) for path in paths] == [200, 200, 200, 404]
        sidecar.sidecar.drain.begin()
        assert [get(port, path) for path in paths] == [200, 503, 200, 404]


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The probes' port is refused like any address (F4)."""
    with thread_sidecar(tmp_path, http=Address(host="127.0.0.1")) as sidecar:
        taken = Address(host="127.0.0.1", port=sidecar.sidecar.http_port)
        with pytest.raises(AddressError, match="in use"), thread_sidecar(tmp_path, http=taken):
            pass
