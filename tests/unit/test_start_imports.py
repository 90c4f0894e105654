"""What the sidecar imports before it serves: each library takes from the time until it is ready."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx_files import score_model
from sidecars import put

from inference_server.adapters import onnx_messages

ALWAYS_LATER = {
    *("aiohttp", "onnx", "prometheus_client", "sklearn"),
    *("typer", "rich", "pydantic", "watchfiles", "importlib.metadata", "statistics", "tempfile"),
}
OURS = {"numpy", "onnxruntime", "grpc", "asyncio", "google.protobuf", "logging"}


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("inference_server.cli", OURS),
        ("inference_server.adapters.head_start", OURS),
        ("inference_server.commands.serve", {"grpc"}),
        ("inference_server.rpc.h2.server", {"grpc"}),
        ("inference_server.adapters.vetting_child", {"asyncio", "grpc", "concurrent.futures"}),
    ],
)
def test_what_takes_long_is_imported_when_it_is_needed(module: str, more: set[str]) -> None:
    """The first vetting process is started before our libraries, and HTTP's come once models are judged."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (ALWAYS_LATER | more) & set(told.stdout.split()) == set()


SERVING = """
import asyncio, sys
from inference_server.app import serving
from inference_server.commands.serve import plain_options
from inference_server.plain_arguments import read_plain

async def main():
    options, _ = plain_options(read_plain(["serve", *sys.argv[1:]], {}), {})
    async with serving(options) as sidecar:
        await sidecar.reconciler.settled()
        assert sidecar.registry.ready()
        print(*sys.modules)

asyncio.run(main())
"""


@pytest.mark.parametrize(("transport", "imported"), [("auto", False), ("grpcio", True)])
def test_a_start_on_addresses_of_this_machine_does_without_grpcio(
    tmp_path: Path, transport: str, imported: bool
) -> None:
    """With its models served, and whatever service stands in the method table."""
    put(tmp_path / "models" / "one.onnx", score_model("one"))
    flags = [
        *("--models", str(tmp_path / "models"), "--state", str(tmp_path / "state"), "--http", "off"),
        *("--listen", f"unix:{tmp_path}/s", "--listen", "127.0.0.1:0", "--transport", transport),
    ]
    told = subprocess.run([sys.executable, "-c", SERVING, *flags], check=True, capture_output=True, text=True)
    modules = set(told.stdout.split())
    assert ("grpc" in modules) is imported
    # What watches the folder comes with a library, in a thread, once all else is there.
    assert (ALWAYS_LATER - {"watchfiles", "tempfile"}) & modules == set()


@pytest.mark.parametrize("first", ["onnx", "inference_server.adapters.onnx_messages"])
def test_the_messages_of_a_file_are_those_of_onnx_itself(first: str) -> None:
    """Vetting parses without the package `onnx`, and whoever imports that too gets the very same classes."""
    script = (
        f"import {first}, onnx; from inference_server.adapters import onnx_messages as ours;"
        "print(all(getattr(onnx, name) is getattr(ours, name) for name in ours.__all__))"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout == "True\n"


def test_a_package_of_another_layout_is_imported_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower, and the same classes: where a release of `onnx` keeps its messages is no promise of it."""
    monkeypatch.setattr(onnx_messages, "MODULE", "elsewhere_pb2")
    assert onnx_messages._messages() is onnx
