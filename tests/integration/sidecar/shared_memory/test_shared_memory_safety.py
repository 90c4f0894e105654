"""What callers and owners of shared memory can do wrong, against a real sidecar: it costs only them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from onnx_files import score_model
from shared_objects import (
    FOLDER,
    OPTIONS,
    ROWS,
    SUMS,
    Objects,
    in_region,
    into_region,
    new_key,
    open_objects,
    refused,
)
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, thread_sidecar
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")


@pytest.mark.parametrize(
    ("byte_size", "offset", "text"),
    [
        (0, 0, "expected 1 to 4096 bytes, came 0"),
        (4097, 0, "expected 1 to 4096 bytes, came 4097"),
        (2**64 - 1, 0, "expected 1 to 4096 bytes"),
        (256, 1, "within the 256 bytes of"),
        (1, 256, "within the 256 bytes of"),
        (1, 2**64 - 1, "within the 256 bytes of"),
        (4096, 2**64 - 4096, "within the 256 bytes of"),
    ],
)
def test_a_window_beyond_the_object_is_refused(
    client: triton.InferenceServerClient, made: Objects, byte_size: int, offset: int, text: str
) -> None:
    """A region must lie within its object; sums that pass 64 bits are no way around that (F7)."""
    key, _ = made.create(256)
    with refused("INVALID_ARGUMENT", text):
        client.register_system_shared_memory("region", key, byte_size, offset)
    assert not client.get_system_shared_memory_status().regions


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", ".", "..", "/..", "../dev/shm/x", "a/b", "//a", "/etc/passwd", "nul\0", "x" * 256),
        *("/sem.semaphore", "ü" * 128),
    ],
)
def test_a_key_that_is_no_name_of_an_object_is_refused(
    client: triton.InferenceServerClient, key: str
) -> None:
    """A key leads nowhere but to an object in the folder of shared memory, and to no semaphore (F7, D13)."""
    with refused("INVALID_ARGUMENT", "expected the name of a shared memory object"):
        client.register_system_shared_memory("region", key, 8)


def test_only_a_plain_object_is_opened(client: triton.InferenceServerClient, tmp_path: Path) -> None:
    """What is not there, a link, a folder and a FIFO are refused; nobody waits for a FIFO's writer (F7)."""
    names = [new_key() for _ in range(4)]
    target = tmp_path / "target"
    target.write_bytes(bytes(64))
    (FOLDER / names[1]).symlink_to(target)
    (FOLDER / names[2]).mkdir()
    os.mkfifo(FOLDER / names[3])
    try:
        for name in names[:3]:
            with refused("INVALID_ARGUMENT", "there is no such shared memory object"):
                client.register_system_shared_memory("region", name, 8)
        with refused("FAILED_PRECONDITION", "names no shared memory object"):
            client.register_system_shared_memory("region", names[3], 8)
    finally:
        (FOLDER / names[1]).unlink()
        (FOLDER / names[2]).rmdir()
        (FOLDER / names[3]).unlink()


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_regions_name_is_bounded(client: triton.InferenceServerClient, made: Objects, name: str) -> None:
    """A region has a name of at most 255 bytes (D16)."""
    key, _ = made.create()
    with refused("INVALID_ARGUMENT", "region name: expected 1 to 255 bytes"):
        client.register_system_shared_memory(name, key, 8)


def test_a_name_that_is_taken_stays_what_it_is(client: triton.InferenceServerClient, made: Objects) -> None:
    """The same bytes may be registered again, as a client does that was started anew; others may not."""
    key = made.register_file("region", 64).name
    client.register_system_shared_memory("region", f"/{key}", 64)
    other, _ = made.create(64)
    before = len(open_objects())
    for window in ((other, 64, 0), (key, 32, 0), (key, 32, 32)):
        with refused("FAILED_PRECONDITION", "registered already; unregister it first"):
            client.register_system_shared_memory("region", *window)
    assert client.get_system_shared_memory_status("region").regions["region"].key == key
    assert len(open_objects()) == before


def test_regions_are_bounded_in_number_and_bytes(client: triton.InferenceServerClient, made: Objects) -> None:
    """Neither more regions nor more bytes than configured, together; room that is given back counts again."""
    for name in ("a", "b"):
        made.register(name, 4096)
    key, _ = made.create(4096)
    with refused("FAILED_PRECONDITION", "all regions together may have 10000 bytes"):
        client.register_system_shared_memory("c", key, 4096)
    for name in ("c", "d"):
        client.register_system_shared_memory(name, key, 8)
    with refused("FAILED_PRECONDITION", "4 regions are registered, which is the bound"):
        client.register_system_shared_memory("e", key, 8)
    client.unregister_system_shared_memory("a")
    client.register_system_shared_memory("e", key, 4096)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (in_region("nowhere"), "no shared memory region 'nowhere' is registered"),
        (in_region("region", 24, 241), "has 256 bytes; came 24 bytes from 241"),
        (in_region("region", 24, -1), "has 256 bytes; came 24 bytes from -1"),
        (in_region("region", -24), "has 256 bytes; came -24 bytes from 0"),
        (in_region("region", 2**63 - 1, 2**63 - 1), "has 256 bytes"),
        (in_region("region", 20), "expected 24 bytes for FP32"),
        (in_region("region", 28), "expected 24 bytes for FP32"),
    ],
)
def test_a_window_beyond_the_region_is_refused(
    client: triton.InferenceServerClient, made: Objects, inputs: list, text: str
) -> None:
    """An input must lie in a registered region, within its bounds, and have its size exactly (F7, D6)."""
    made.register("region", 256)
    with refused("INVALID_ARGUMENT", text):
        client.infer("plain", inputs)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (into_region("nowhere"), "no shared memory region 'nowhere' is registered"),
        (into_region("region", 8, 249), "has 256 bytes; came 8 bytes from 249"),
        (into_region("region", 8, -8), "has 256 bytes; came 8 bytes from -8"),
        (into_region("region", 7), "output 'score' takes 8 bytes; shared_memory_byte_size says 7"),
    ],
)
def test_an_output_without_room_is_refused(
    client: triton.InferenceServerClient, made: Objects, outputs: list, text: str
) -> None:
    """An output must fit its window, and its window the region; otherwise nothing is written (F7)."""
    _, handle = made.register("region", 256)
    tensor = triton.InferInput("features", [2, 3], "FP32").set_data_from_numpy(ROWS)
    with refused("INVALID_ARGUMENT", text):
        client.infer("plain", [tensor], outputs=outputs)
    assert bytes(handle._mpsm_handle.buf[:256]) == bytes(256)


def test_an_answer_without_room_is_a_failure_of_the_version_that_gave_it(
    client: triton.InferenceServerClient, made: Objects
) -> None:
    """A call that ran and whose answer could not be written is counted under its version, and once (F5)."""

    def failures() -> dict[str, int]:
        counts = {}
        for version in ("0", "1"):
            [told] = client.get_inference_statistics("plain", version).model_stats
            counts[version] = told.inference_stats.fail.count
        return counts

    made.register("region", 256)
    before = failures()
    tensor = triton.InferInput("features", [2, 3], "FP32").set_data_from_numpy(ROWS)
    with refused("INVALID_ARGUMENT", "takes 8 bytes"):
        client.infer("plain", [tensor], outputs=into_region("region", 7))
    assert failures() == {"0": before["0"], "1": before["1"] + 1}


def test_parameters_of_the_wrong_kind_are_refused(
    client: triton.InferenceServerClient, made: Objects
) -> None:
    """A region that is no text, and a size or offset that is missing or no integer, are told of (D15)."""
    made.register("region", 256)
    stub = client._client_stub

    def ask(**parameters: object) -> None:
        request = service_pb2.ModelInferRequest(model_name="plain")
        tensor = request.inputs.add(name="features", datatype="FP32", shape=[2, 3])
        for name, value in parameters.items():
            kind = {int: "int64_param", str: "string_param", bool: "bool_param"}[type(value)]
            setattr(tensor.parameters[f"shared_memory_{name}"], kind, value)
        stub.ModelInfer(request, timeout=PATIENCE_S)

    for parameters, text in (
        ({"region": 1, "byte_size": 24}, "expected shared_memory_region as string_param"),
        ({"region": "region"}, "expected shared_memory_byte_size beside shared_memory_region"),
        (
            {"region": "region", "byte_size": "24"},
            "shared_memory_byte_size as int64_param, came string_param",
        ),
        ({"region": "region", "byte_size": 24, "offset": True}, "shared_memory_offset as int64_param"),
    ):
        with pytest.raises(Exception, match=text):
            ask(**parameters)
    ask(region="region", byte_size=24, offset=0)


def test_one_call_reads_no_more_than_a_region(client: triton.InferenceServerClient, made: Objects) -> None:
    """Many inputs that name the same bytes do not make the server copy without end (F7)."""
    made.register("region", 4096)
    inputs = [
        triton.InferInput(f"features{number}", [1024], "FP32").set_shared_memory("region", 4096)
        for number in range(2)
    ]
    with refused("INVALID_ARGUMENT", "together longer than a region may be"):
        client.infer("plain", inputs)


def test_an_owner_who_truncates_costs_only_his_call(
    client: triton.InferenceServerClient, made: Objects
) -> None:
    """Reading and writing beyond the object's new end are refused; it is not made longer again (F7)."""
    key, handle = made.register("region", 256)
    shm.set_shared_memory_region(handle, [ROWS])
    os.truncate(FOLDER / key, 20)
    with refused("INVALID_ARGUMENT", "ends before the window's end"):
        client.infer("plain", in_region("region"))
    tensor = triton.InferInput("features", [2, 3], "FP32").set_data_from_numpy(ROWS)
    with refused("INVALID_ARGUMENT", "ends before the window's end"):
        client.infer("plain", [tensor], outputs=into_region("region", 8, 100))
    assert (FOLDER / key).stat().st_size == 20
    os.truncate(FOLDER / key, 256)
    shm.set_shared_memory_region(handle, [ROWS])
    client.infer("plain", in_region("region"), outputs=into_region("region", 8, 100))
    np.testing.assert_array_equal(shm.get_contents_as_numpy(handle, np.float32, [2, 1], 100), SUMS)


def test_nothing_is_written_once_a_region_is_unregistered(
    client: triton.InferenceServerClient, made: Objects, sidecar: ThreadSidecar
) -> None:
    """Unregistering while the model runs fails that call, and its window stays as its owner left it (F7)."""
    _, handle = made.register("region", 256)
    turns = np.array([[1_000_000, 1, 1]], dtype=np.float32)
    shm.set_shared_memory_region(handle, [turns])
    inputs = triton.InferInput("features", [1, 3], "FP32").set_shared_memory("region", 12)
    answers: list[tuple] = []
    done = threading.Event()

    def take(result: object, error: object) -> None:
        answers.append((result, error))
        done.set()

    client.async_infer("turns", [inputs], take, outputs=into_region("region", 12, 100))
    eventually(lambda: runs_in_flight(sidecar) == 1, "the call runs")
    client.unregister_system_shared_memory("region")
    assert runs_in_flight(sidecar) == 1, "the run was too short to tell"
    assert done.wait(PATIENCE_S)
    [(result, error)] = answers
    assert result is None
    assert error.status() == "StatusCode.INVALID_ARGUMENT"
    assert "no shared memory region 'region' is registered" in str(error)
    assert bytes(handle._mpsm_handle.buf[12:256]) == bytes(244)


def runs_in_flight(sidecar: ThreadSidecar) -> int:
    """Calls of the slow model that are in flight."""
    [model] = sidecar.sidecar.registry.describe(["turns"])
    return model.versions[0].in_flight


def test_an_unlinked_object_is_let_go(client: triton.InferenceServerClient, made: Objects) -> None:
    """When its owner has unlinked it, the server frees it unasked, and says so to whoever uses it."""
    file = made.register_file("region")
    assert open_objects() == [str(file)]
    file.unlink()
    eventually(lambda: not open_objects(), "the unlinked object is closed")
    with refused("INVALID_ARGUMENT", "no shared memory region 'region' is registered"):
        client.infer("plain", in_region("region"))
    made.register("region")  # the name is free again
    assert set(client.get_system_shared_memory_status().regions) == {"region"}


OWNER = """
import sys
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
target, key = sys.argv[1:]
handle = shm.create_shared_memory_region("owned", key, 64, create_only=True)
client = triton.InferenceServerClient(target)
client.register_system_shared_memory("owned", key, 64)
print("registered", flush=True)
sys.stdin.read()
"""


def test_the_region_of_an_owner_who_is_killed_is_let_go(
    client: triton.InferenceServerClient, sidecar: ThreadSidecar
) -> None:
    """A Python owner that dies by SIGKILL leaves nothing: its tracker unlinks, and the server lets go."""
    key = new_key()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, sidecar.unix, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where the tracker tells of what it cleans up
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "registered\n"
        assert set(client.get_system_shared_memory_status().regions) == {"owned"}
        owner.send_signal(signal.SIGKILL)
        eventually(lambda: not open_objects(), "the dead owner's object is closed")
    assert not client.get_system_shared_memory_status().regions
    assert not (FOLDER / key).exists()


def test_a_server_that_ends_lets_go_of_everything(tmp_path: Path) -> None:
    """At the end nothing is left open, and the objects are still their owners'."""
    put(tmp_path / "plain.onnx", score_model(None))
    with contextlib.ExitStack() as stack:
        with thread_sidecar(tmp_path, shared_memory=OPTIONS) as running:
            client = stack.enter_context(triton.InferenceServerClient(running.unix))
            objects = stack.enter_context(contextlib.closing(Objects(client)))
            file = objects.register_file("region")
            assert open_objects() == [str(file)]
        assert not open_objects()
        assert file.exists()
