"""System shared memory through a real sidecar, with `tritonclient` and its own shared memory module."""

import threading
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from onnx_files import score_model
from shared_objects import FOLDER, ROWS, SUMS, Objects, in_region, into_region, refused
from sidecars import put, thread_sidecar
from tritonclient.utils import serialize_byte_tensor

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")


def test_input_and_output_lie_in_one_region(client: triton.InferenceServerClient, made: Objects) -> None:
    """A tensor is read from its window and the answer written to its own; nothing else is touched."""
    _, handle = made.register("both", byte_size=128, offset=16)
    shm.set_shared_memory_region(handle, [np.full(128, 7, dtype=np.uint8)])
    shm.set_shared_memory_region(handle, [ROWS], offset=16 + 8)
    result = client.infer("plain", in_region("both", offset=8), outputs=into_region("both", 12, offset=40))
    written = shm.get_contents_as_numpy(handle, np.float32, [2, 1], offset=16 + 40)
    np.testing.assert_array_equal(written, SUMS)
    rest = bytes(handle._mpsm_handle.buf)
    assert rest[: 16 + 8] == bytes([7] * 24)
    assert rest[16 + 40 + 8 : 128] == bytes([7] * 64)
    [output] = result.get_response().outputs
    assert list(result.get_response().raw_output_contents) == [b""]
    assert output.parameters["shared_memory_region"].string_param == "both"
    assert output.parameters["shared_memory_byte_size"].int64_param == 8
    assert output.parameters["shared_memory_offset"].int64_param == 40


def test_tensors_of_a_call_lie_here_and_there(client: triton.InferenceServerClient, made: Objects) -> None:
    """Of many tensors some are in regions and some in the message, texts among both."""
    _, handle = made.register("in")
    _, there = made.register("out")
    texts = serialize_byte_tensor(np.array([b"first", b""], dtype=np.object_))
    shm.set_shared_memory_region(handle, [ROWS])
    shm.set_shared_memory_region(handle, [texts], offset=64)
    raws = {
        "counts": ("INT64", np.array([5, 6], dtype=np.int64)),
        "scale": ("FP64", np.array(2.0)),
        "flags": ("BOOL", np.zeros((2, 2), dtype=np.bool_)),
    }
    inputs = [
        triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)
        for name, (datatype, array) in raws.items()
    ]
    inputs.insert(1, in_region("in")[0])
    inputs.append(triton.InferInput("texts", [2], "BYTES").set_shared_memory("in", len(texts.item()), 64))
    same = triton.InferRequestedOutput("same")
    same.set_shared_memory("out", 100)
    outputs = [triton.InferRequestedOutput("scaled"), same, triton.InferRequestedOutput("total")]
    result = client.infer("mixed", inputs, outputs=outputs)
    np.testing.assert_array_equal(result.as_numpy("scaled"), ROWS * 2.0)
    np.testing.assert_array_equal(result.as_numpy("total"), 11)
    assert list(shm.get_contents_as_numpy(there, np.object_, [2])) == [b"first", b""]
    assert result.get_output("same").parameters["shared_memory_byte_size"].int64_param == len(texts.item())


def test_a_stream_uses_regions_too(client: triton.InferenceServerClient, made: Objects) -> None:
    """On a stream a tensor in a region is answered as in a call, and an error stays in-band."""
    _, handle = made.register("region")
    shm.set_shared_memory_region(handle, [ROWS])
    answers: list[tuple] = []
    done = threading.Semaphore(0)

    def take(result: object, error: object) -> None:
        answers.append((result, error))
        done.release()

    client.start_stream(callback=take)
    client.async_stream_infer("plain", in_region("region"), outputs=into_region("region", 8, 100))
    client.async_stream_infer("plain", in_region("nowhere"))
    for _ in range(2):
        assert done.acquire(timeout=60)
    client.stop_stream()
    assert answers[0][1] is None
    np.testing.assert_array_equal(shm.get_contents_as_numpy(handle, np.float32, [2, 1], 100), SUMS)
    assert "no shared memory region 'nowhere'" in str(answers[1][1])


def test_it_is_off_unless_configured(tmp_path: Path) -> None:
    """Without the option nothing can be registered or used, and the extension is not advertised (F7)."""
    put(tmp_path / "plain.onnx", score_model(None))
    with thread_sidecar(tmp_path) as running, triton.InferenceServerClient(running.unix) as client:
        assert "system_shared_memory" not in client.get_server_metadata().extensions
        with refused("UNIMPLEMENTED", "shared memory is off"):
            client.register_system_shared_memory("region", "/key", 8)
        with refused("UNIMPLEMENTED", "shared memory is off"):
            client.get_system_shared_memory_status()
        with refused("UNIMPLEMENTED", "shared memory is off"):
            client.unregister_system_shared_memory()
        with refused("INVALID_ARGUMENT", "shared memory is off"):
            client.infer("plain", in_region("region"))


def test_it_is_advertised_where_it_is_on(client: triton.InferenceServerClient) -> None:
    """A client finds the extension in the server's metadata."""
    assert "system_shared_memory" in client.get_server_metadata().extensions


def test_the_status_has_every_region(client: triton.InferenceServerClient, made: Objects) -> None:
    """Name, key, offset and size come as registered, of one region or of all; an unknown one is not found."""
    first, _ = made.register("first", 64)
    second, _ = made.register("second", 64, offset=24)
    regions = client.get_system_shared_memory_status().regions
    told = {name: (each.name, each.key, each.offset, each.byte_size) for name, each in regions.items()}
    assert told == {
        "first": ("first", f"/{first}", 0, 64),
        "second": ("second", f"/{second}", 24, 40),
    }
    assert set(client.get_system_shared_memory_status("second").regions) == {"second"}
    with refused("NOT_FOUND", "no shared memory region 'third'"):
        client.get_system_shared_memory_status("third")


def test_unregistering_takes_one_or_all(client: triton.InferenceServerClient, made: Objects) -> None:
    """One region by name, or all without a name; one that is not there is no error."""
    for name in ("a", "b", "c"):
        made.register(name, 16)
    client.unregister_system_shared_memory("a")
    client.unregister_system_shared_memory("a")
    assert set(client.get_system_shared_memory_status().regions) == {"b", "c"}
    client.unregister_system_shared_memory()
    assert not client.get_system_shared_memory_status().regions
