"""Bytes that nobody meant, against a real sidecar: every RPC, and the connection below them.

A long run by hand: FUZZ_EXAMPLES=100000 nice .venv/bin/python -m pytest --timeout 0 and this file.
"""

import contextlib
import logging
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_files import identity_model
from onnx_files import GOLDEN_ROWS, score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import control_pb2
from tickserve.v1 import predictor_pb2 as wire

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LIMITED = settings(
    max_examples=EXAMPLES or 1000,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ROW = GOLDEN_ROWS[:1].tobytes()
PATIENCE_S = 60.0
# What a caller may be told of a message, whatever is in it. UNIMPLEMENTED: RPCs that are off.
STATUSES = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
}
IN_BAND_CODES = {0, 3, 4, 5, 8, 9, 14}
MAX_TEXT = 680


@dataclass(frozen=True)
class Rpc:
    """One RPC: its path, how it streams, and its messages."""

    path: str
    takes_stream: bool
    gives_stream: bool
    request: type[Message] = field(repr=False)
    response: type[Message] = field(repr=False)


def rpcs() -> list[Rpc]:
    """Every RPC of every service on the port."""
    files = (wire, control_pb2, oip, health_pb2, reflection_pb2)
    found = []
    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                request, response = (
                    getattr(file, kind.full_name.rpartition(".")[2])
                    for kind in (method.input_type, method.output_type)
                )
                path = f"/{service.full_name}/{method.name}"
                streams = (method.client_streaming, method.server_streaming)
                found.append(Rpc(path, *streams, request, response))
    return found


RPCS = rpcs()


def seeds() -> dict[str, list[bytes]]:
    """Good messages by the full name of their kind, to be spoilt."""
    infer = oip.ModelInferRequest(model_name="one", id="1", raw_input_contents=[ROW])
    infer.inputs.add(name="features", datatype="FP32", shape=[1, 3])
    infer.outputs.add(name="score")
    infer.parameters["timeout"].int64_param = 10_000_000
    typed = oip.ModelInferRequest(model_name="two", model_version="1")
    texts = typed.inputs.add(name="x0", datatype="BYTES", shape=[2])
    texts.contents.bytes_contents.extend([b"a", b"bc"])
    texts.parameters["content_type"].string_param = "str"
    typed.inputs.add(name="x1", datatype="INT16", shape=[2, 1]).contents.int_contents.extend([1, -1])
    raw = oip.ModelInferRequest(model_name="two")
    raw.inputs.add(name="x0", datatype="BYTES", shape=[1])
    raw.inputs.add(name="x1", datatype="INT16", shape=[1, 1])
    raw.raw_input_contents.extend([struct.pack("<I", 2) + b"ab", b"\1\0"])
    half = oip.ModelInferRequest(model_name="half", raw_input_contents=[b"\x80\x3f"])
    half.inputs.add(name="x0", datatype="BF16", shape=[1])
    parts = [
        wire.PredictPart(model="one", rows=1, features=ROW),
        wire.PredictPart(model="one", rows=2, features=ROW * 2, label="stable"),
        wire.PredictPart(model="none", version=3, rows=1, features=ROW, contract_hash="ab"),
    ]
    predict = wire.PredictRequest(id="7", parts=parts, timeout_us=10_000_000)
    load = oip.RepositoryModelLoadRequest(model_name="one")
    load.parameters["config"].string_param = '{"max_batch_size": 0}'
    load.parameters["file:1/model.onnx"].bytes_param = b"not a model"
    messages = [
        *(infer, typed, raw, half, predict, load),
        wire.DescribeModelsRequest(models=["one", "none"]),
        control_pb2.RollbackRequest(model="one"),
        control_pb2.ResumeRequest(model="none"),
        control_pb2.SetLabelRequest(model="one", label="stable", version=2),
        control_pb2.DeleteLabelRequest(model="one", label="stable"),
        oip.ModelMetadataRequest(name="one", version="1"),
        oip.ModelConfigRequest(name="one"),
        oip.ModelReadyRequest(name="one", version="stable"),
        oip.RepositoryIndexRequest(ready=True),
        oip.RepositoryModelUnloadRequest(model_name="one"),
        health_pb2.HealthCheckRequest(service="tickserve.v1.Predictor"),
        reflection_pb2.ServerReflectionRequest(host="x", list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest"),
    ]
    by_kind: dict[str, list[bytes]] = {}
    for message in messages:
        by_kind.setdefault(message.DESCRIPTOR.full_name, []).append(message.SerializeToString())
    return by_kind


SEEDS = seeds()
HUGE = [b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x07", b"\x80" * 12, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"]


def _flip(raw: bytearray, at: int, end: int, number: int) -> None:
    raw[at:end] = bytes(byte ^ 1 << number % 8 for byte in raw[at : at + 1]) + raw[at + 1 : end]


def _set(raw: bytearray, at: int, end: int, number: int) -> None:
    odd = b"\0\x01\x7f\x80\xff./\n\r \\'"
    raw[at : at + 1] = odd[number % len(odd) :][:1]


def _cut(raw: bytearray, at: int, end: int, number: int) -> None:
    del raw[at:]


def _drop(raw: bytearray, at: int, end: int, number: int) -> None:
    del raw[at:end]


def _repeat(raw: bytearray, at: int, end: int, number: int) -> None:
    raw[at:at] = raw[at:end] * (1, 2, 50, 3000)[number % 4]


def _insert(raw: bytearray, at: int, end: int, number: int) -> None:
    raw[at:at] = random.Random(number).randbytes(end - at)  # noqa: S311 - a repeatable stream of bytes


def _claim_much(raw: bytearray, at: int, end: int, number: int) -> None:
    raw[at : at + number % 2] = HUGE[number % len(HUGE)]


def _nest(raw: bytearray, at: int, end: int, number: int) -> None:
    """Make the rest a field of itself, deeper each time."""
    for _ in range((1, 5, 120)[number % 3]):
        raw[at:] = bytes([(0x0A, 0x12, 0x22, 0x2A, 0x5B)[number % 5]]) + _sized(raw[at:])


def _turn(raw: bytearray, at: int, end: int, number: int) -> None:
    raw[at:end] = raw[at:end][::-1]


ACCIDENTS = (_flip, _set, _cut, _drop, _repeat, _insert, _claim_much, _nest, _turn)
accidents = st.tuples(
    st.sampled_from(ACCIDENTS), st.integers(0, 10_000), st.integers(1, 24), st.integers(0, 10_000)
)


def spoilt(good: bytes) -> st.SearchStrategy[bytes]:
    """A good message with a few accidents in it."""

    def happen(several: list) -> bytes:
        raw = bytearray(good)
        for accident, place, length, number in several:
            at = place % (len(raw) + 1)
            accident(raw, at, min(len(raw), at + length), number)
        return bytes(raw)

    return st.lists(accidents, min_size=1, max_size=4).map(happen)


TEXTS = (
    *("", "one", "two", "half", "none", "features", "score", "x0", "x1", "y0", "stable", "1", "2", "01"),
    *("\0", "../..", " ", "\n", "\u202e\U0010ffff", "x" * 300, "FP32", "BYTES", "INT16", "BF16", "FP31"),
    *(
        "timeout",
        "sequence_id",
        "shared_memory_region",
        "config",
        "file:1/model.onnx",
        "tickserve.v1.Predictor",
    ),
)
RAWS = (b"", ROW, ROW * 2, b"\x80\x3f", b"\0" * 4, b"\2\0\0\0ab", b"\xff" * 7, b"\0\0\xc0\x7f" * 3)
NUMBERS = (0, 1, 2, 3, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
Kinds = FieldDescriptor


def value_of(draw: st.DrawFn, entry: FieldDescriptor) -> object:
    """An odd value that the field can hold."""
    match entry.cpp_type:
        case Kinds.CPPTYPE_STRING if entry.type == Kinds.TYPE_BYTES:
            return draw(st.sampled_from(RAWS))
        case Kinds.CPPTYPE_STRING:
            return draw(st.sampled_from(TEXTS))
        case Kinds.CPPTYPE_BOOL:
            return draw(st.booleans())
        case Kinds.CPPTYPE_FLOAT | Kinds.CPPTYPE_DOUBLE:
            return draw(st.floats(width=32))
        case Kinds.CPPTYPE_ENUM:
            return draw(st.sampled_from([number.number for number in entry.enum_type.values]))
    number = draw(st.sampled_from(NUMBERS))
    bits = 64 if entry.cpp_type in {Kinds.CPPTYPE_INT64, Kinds.CPPTYPE_UINT64} else 32
    number %= 2**bits
    signed = entry.cpp_type in {Kinds.CPPTYPE_INT32, Kinds.CPPTYPE_INT64}
    return number - 2**bits if signed and number >= 2 ** (bits - 1) else number


def fill(draw: st.DrawFn, message: Message) -> Message:
    """Put odd values into about half the fields of a message."""
    for entry in message.DESCRIPTOR.fields:
        many = entry.is_repeated
        for _ in range(draw(st.integers(0, 3 if many else 1))):
            held = getattr(message, entry.name)
            if entry.message_type is None:
                value = value_of(draw, entry)
                held.append(value) if many else setattr(message, entry.name, value)
            elif entry.message_type.GetOptions().map_entry:
                fill(draw, held[draw(st.sampled_from(TEXTS))])
            else:
                fill(draw, held.add() if many else held)
    return message


@st.composite
def odd(draw: st.DrawFn, kind: type[Message]) -> bytes:
    """A message that parses, of odd values."""
    return fill(draw, kind()).SerializeToString()


@st.composite
def questions(draw: st.DrawFn) -> tuple[Rpc, list[bytes]]:
    """An RPC, and what is sent to it: a message, or several on a stream."""
    rpc = draw(st.sampled_from(RPCS))
    good = SEEDS.get(rpc.request.DESCRIPTOR.full_name, [b""])
    message = st.one_of(odd(rpc.request), st.sampled_from(good).flatmap(spoilt), st.binary(max_size=120))
    return rpc, draw(st.lists(message, min_size=1, max_size=4 if rpc.takes_stream else 1))


class Errors(logging.Handler):
    """Keeps what is logged as an error, or with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.told.append(self.format(record))


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[ThreadSidecar]:
    """Serve a few models; at the end nothing was logged as an error and nothing is in flight."""
    models = tmp_path_factory.mktemp("models")
    put(models / "one.onnx", score_model("one"))
    put(models / "two.onnx", identity_model(("BYTES", [None]), ("INT16", [None, 1])))
    put(models / "half.onnx", identity_model(("BF16", [None])))
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        with thread_sidecar(models) as running:
            yield running
            eventually(lambda: not in_flight(running), "no RPC and no run is in flight")
    finally:
        logging.getLogger().removeHandler(errors)
    assert errors.told == []


def in_flight(running: ThreadSidecar) -> int:
    """RPCs that have not ended and runs of models together."""
    models = running.sidecar.registry.describe()
    runs = sum(version.in_flight for model in models for version in model.versions)
    return sum(dict(running.sidecar.statistics.rpcs_in_flight).values()) + runs


@pytest.fixture(scope="module")
def channel(sidecar: ThreadSidecar) -> Iterator[grpc.Channel]:
    """A channel over TCP."""
    with grpc.insecure_channel(sidecar.tcp) as made:
        yield made


def answers_as_ever(channel: grpc.Channel) -> None:
    """A good question gets its answer."""
    request = wire.PredictRequest(parts=[wire.PredictPart(model="one", rows=1, features=ROW)])
    (result,) = stub(channel, "Predict", wire.PredictResponse)(request, timeout=PATIENCE_S).parts
    assert result.outputs[0].raw == struct.pack("<f", 6.0)


def ask(channel: grpc.Channel, rpc: Rpc, messages: list[bytes]) -> tuple[str, str, list[Message]]:
    """Return status, text and answers. A stream that would not end, of health, is left after its first."""
    arity = f"{'stream' if rpc.takes_stream else 'unary'}_{'stream' if rpc.gives_stream else 'unary'}"
    function = getattr(channel, arity)(rpc.path, response_deserializer=rpc.response.FromString)
    question = iter(messages) if rpc.takes_stream else messages[0]
    answers: list[Message] = []
    try:
        if not rpc.gives_stream:
            answers.append(function(question, timeout=PATIENCE_S))
        else:
            call = function(question, timeout=PATIENCE_S)
            for answer in call:
                answers.append(answer)
                if rpc.path.endswith("/Watch"):
                    call.cancel()
                    break
    except grpc.RpcError as error:
        return error.code().name, error.details() or "", answers
    return "OK", "", answers


def is_one(kind: type[Message], raw: bytes) -> bool:
    """Whether the bytes are a message of this kind at all."""
    try:
        kind.FromString(raw)
    except DecodeError:
        return False
    return True


def in_band(answer: Message) -> Iterator[tuple[int, str]]:
    """Codes and texts of what an answer says of its parts."""
    if isinstance(answer, wire.PredictResponse):
        for status in (answer.error, *(part.status for part in answer.parts)):
            yield status.code, status.message
    if isinstance(answer, oip.ModelStreamInferResponse):
        yield 13 if "internal" in answer.error_message else 0, answer.error_message


@LIMITED
@given(question=questions())
def test_no_message_is_more_than_a_refusal(channel: grpc.Channel, question: tuple[Rpc, list[bytes]]) -> None:
    """D14: whatever is sent to whichever RPC gets a documented status in time, with a short plain text."""
    rpc, messages = question
    began = time.monotonic()
    code, text, answers = ask(channel, rpc, messages)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert code in STATUSES, text
    assert text.isprintable(), text
    assert len(text) <= MAX_TEXT
    for inner, said in (pair for answer in answers for pair in in_band(answer)):
        assert inner in IN_BAND_CODES, said
        assert said.isprintable(), said
    if not answers and not is_one(rpc.request, messages[0]):
        assert code in {"INVALID_ARGUMENT", "UNIMPLEMENTED"}
    answers_as_ever(channel)


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """An HTTP/2 frame, which may lie of its length."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def garbage() -> list[bytes]:
    """What may come on a port: noise, other protocols, and HTTP/2 gone wrong at each step."""
    chance = random.Random(14)  # noqa: S311 - a repeatable stream of bytes
    opened = PREFACE + frame(4, 0, 0, b"")
    return [
        *(chance.randbytes(size) for size in (1, 24, 500, 20_000)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
        PREFACE[:10],
        PREFACE + chance.randbytes(200),
        opened + frame(4, 0, 0, b"\0" * 5),
        opened + frame(4, 0, 0, (b"\0\x04" + b"\xff" * 4) * 10),
        opened + frame(1, 4, 1, chance.randbytes(100)),
        opened + frame(1, 4, 1, b"\x3f" + b"\xff" * 30),
        opened + frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\x84" * 100) * 50,
        opened + frame(0, 0, 1, b"\0\xff\xff\xff\xff" * 20),
        opened + frame(0, 0, 0, b"x", length=0xFFFFFF),
        opened + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 3,
        opened + frame(6, 0, 0, b"12345678") * 500,
        opened + frame(200, 255, 2**31 - 1, chance.randbytes(64)),
        opened + b"".join(frame(3, 0, number, b"\0\0\0\x08") for number in range(1, 2001, 2)),
        *(
            opened + frame(*(chance.randrange(top) for top in (12, 256, 5)), chance.randbytes(30))
            for _ in range(60)
        ),
    ]


def test_garbage_on_the_port_hurts_nobody(sidecar: ThreadSidecar, channel: grpc.Channel) -> None:
    """D14: connections that speak no HTTP/2, or bad HTTP/2, are theirs alone; the others are answered."""
    host, _, port = sidecar.tcp.rpartition(":")
    for raw in garbage():
        with (
            socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection,
            contextlib.suppress(OSError),  # the server may close while we still write
        ):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        answers_as_ever(channel)


def test_connections_that_say_nothing_take_no_ones_place(sidecar: ThreadSidecar) -> None:
    """D14: 200 connections that stay half open, silent or in mid-preface, leave room for a new caller."""
    host, _, port = sidecar.tcp.rpartition(":")
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            connection.sendall((PREFACE + frame(4, 0, 0, b""))[: number % 34])
        with grpc.insecure_channel(sidecar.tcp) as new:
            answers_as_ever(new)


def _sized(raw: bytes | bytearray) -> bytes:
    """Bytes behind their length as a varint."""
    length, out = len(raw), bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes([*out, length]) + bytes(raw)
