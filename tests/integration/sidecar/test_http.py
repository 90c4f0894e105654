"""The HTTP probes."""

import contextlib
import socket
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from onnx_files import score_model
from sidecars import PATIENCE_S, describe, put, thread_sidecar

from inference_server.rpc.address import Address, AddressError


def get(port: int, path: str) -> int:
    """Return the status of one request."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as response:
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


def test_it_listens_by_ipv6(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HTTP and gRPC answer on an address of IPv6, which the log has as one writes it."""
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    loopback = Address(host="::1")
    caplog.set_level("INFO")
    with thread_sidecar(tmp_path, more=[loopback], http=loopback) as sidecar:
        port = sidecar.sidecar.http_port
        with urllib.request.urlopen(f"http://[::1]:{port}/v2/health/live", timeout=PATIENCE_S) as response:
            assert response.status == 200
        assert f"http on [::1]:{port}" in caplog.messages
        address = str(sidecar.sidecar.addresses[-1])
        assert address.startswith("[::1]:")
        with grpc.insecure_channel(address) as channel:
            assert not describe(channel).models


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The probes' port is refused like any address (F4)."""
    with thread_sidecar(tmp_path, http=Address(host="127.0.0.1")) as sidecar:
        taken = Address(host="127.0.0.1", port=sidecar.sidecar.http_port)
        with pytest.raises(AddressError, match="in use"), thread_sidecar(tmp_path, http=taken):
            pass
