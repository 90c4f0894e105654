"""No path of the machine, no secret and no traceback in anything that a caller can read (F10).

Everything that can go wrong is provoked, and all texts that come back are searched: statuses, trailers,
in-band errors, what is told of models, the index, and every page at the HTTP address.
"""

import contextlib
import functools
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from certificates import Authority, credentials
from onnx_files import score_model
from open_inference.v2 import inference_pb2 as oip
from sidecars import ThreadSidecar, put, thread_sidecar
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.adapters.certificate import TlsOptions
from inference_server.adapters.token_file import TokenOptions
from inference_server.rpc.address import Address

TOKEN = "secret-token-of-the-desk-" * 2
World = tuple[ThreadSidecar, grpc.Channel, Path, Authority]
ROW = np.array([1, 2, 3], dtype="<f4").tobytes()
NAMES = (
    *("good", "cut", "noise", "misnamed", "versions", "folder", "dangling", "closed"),
    *("nobody", "../../etc/passwd", "\0"),
)
PAGES = (
    *("/", "/status.json", "/status/good.json", "/status/cut.json", "/status/nobody.json", "/metrics"),
    *(
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/good/ready",
        "/../../etc/passwd",
        "/%00",
        "/nothing",
    ),
)


def fill(models: Path) -> None:
    """A repository in which nearly everything is wrong."""
    good = score_model("good")
    put(models / "good.onnx", good)
    put(models / "cut.onnx", good[: len(good) // 2])
    put(models / "empty.onnx", b"")
    put(models / "noise.onnx", b"\xff" * 1000)
    put(models / "misnamed.onnx", score_model("another"))
    put(models / "nested" / "01" / "model.onnx", good)
    put(models / "nested" / "2" / "other.txt", b"x")
    (models / "folder.onnx").mkdir()
    (models / "dangling.onnx").symlink_to(models / "nowhere" / "secret.onnx")
    put(models / "versions" / "1" / "model.onnx", good)
    (models / "versions" / "2").symlink_to("/root")
    put(models / "closed.onnx", good)
    (models / "closed.onnx").chmod(0)


class Overheard:
    """All that a caller was told, and where."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.statuses: set[str] = set()

    def note(self, place: str, *texts: object) -> None:
        """Keep what was told."""
        self.texts += [(place, str(text)) for text in texts]

    def call(self, place: str, function: Callable[[], Any]) -> None:
        """Keep the answer, or the status with its trailers."""
        try:
            answers = function()
            self.note(place, *(answers if isinstance(answers, list) else [answers]))
        except grpc.RpcError as error:
            self.statuses.add(error.code().name)
            self.note(place, error.details(), error.trailing_metadata(), error.initial_metadata(), error)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, served_transport: str) -> Iterator[World]:
    """A sidecar with everything on over a bad repository, and a caller who may do anything."""
    folder = tmp_path_factory.mktemp("leaks")
    fill(folder / "models")
    ours = Authority(folder)
    (folder / "token").write_text(TOKEN)
    tokens = TokenOptions(folder / "token", folder / "token")
    tls = TlsOptions(*ours.issue("server"), ours.file)
    with (
        thread_sidecar(
            folder / "models", tls=tls, tokens=tokens, http=Address("127.0.0.1"), state=folder / "state"
        ) as sidecar,
        grpc.secure_channel(sidecar.tcp, credentials(ours.pem, ours.pair("trader"))) as channel,
    ):
        yield sidecar, channel, folder, ours


def requests(kind: type) -> Iterable[bytes]:
    """Questions that are good, wrong, and none."""
    yield b""
    yield b"\xff\xff"
    for name in NAMES:
        for field in ("model_name", "model", "name", "models"):
            with contextlib.suppress(ValueError, TypeError):
                yield kind(**{field: name}).SerializeToString()
            with contextlib.suppress(ValueError, TypeError):
                yield kind(**{field: [name]}).SerializeToString()
    if kind is oip.ModelInferRequest:
        tensor = oip.ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=(1, 3))
        for name in NAMES:
            yield kind(model_name=name, inputs=[tensor], raw_input_contents=[ROW]).SerializeToString()
            yield kind(model_name=name, model_version="7", inputs=[tensor]).SerializeToString()
    if kind is wire.PredictRequest:
        for name in NAMES:
            yield kind(parts=[wire.PredictPart(model=name, rows=1, features=ROW)]).SerializeToString()
            yield kind(parts=[wire.PredictPart(model=name, rows=5, version=9)]).SerializeToString()
    if kind is oip.RepositoryModelLoadRequest:
        upload = kind(model_name="good")
        upload.parameters["file:1/model.onnx"].bytes_param = b"noise"
        yield upload.SerializeToString()
    if kind is orders.SetLabelRequest:
        yield kind(model="good", label="stable", version=9).SerializeToString()


def overhear(channel: grpc.Channel, sidecar: ThreadSidecar, metadata: list[tuple[str, str]]) -> Overheard:
    """Ask every RPC everything."""
    overheard = Overheard()
    with_it: dict[str, Any] = {"timeout": 5, "metadata": metadata}
    for method in sidecar.sidecar.methods:
        path, decode = method.path, method.response.FromString
        one = channel.unary_unary(path, response_deserializer=decode)
        some = channel.unary_stream(path, response_deserializer=decode)
        many = channel.stream_stream(path, response_deserializer=decode)
        for raw in requests(method.request):
            if method.unary is not None:
                overheard.call(path, functools.partial(one, raw, **with_it))
            elif method.each is not None:
                overheard.call(path, lambda many=many, raw=raw: list(many(iter([raw]), **with_it)))
            else:
                overheard.call(path, lambda some=some, raw=raw: next(some(raw, **with_it)))
    overheard.call("/no.Such/Method", lambda: channel.unary_unary("/no.Such/Method")(b"", timeout=5))
    return overheard


def forbidden(folder: Path) -> list[str]:
    """What must not be told."""
    code = Path(__file__).resolve().parents[3]
    places = [folder, folder.parent, code, tempfile.gettempdir(), sys.prefix, sys.base_prefix]
    words = ["/root", "/proc", "/home/", "site-packages", ".py", "Traceback", "secret.onnx", "PRIVATE KEY"]
    return [*map(str, places), *words, TOKEN]


def leaks(overheard: Overheard, folder: Path) -> list[tuple[str, str, str]]:
    """Whatever was told and must not be; what the caller said himself is no secret to him."""
    return [
        (word, place, text[:300])
        for place, text in overheard.texts
        for word in forbidden(folder)
        if word in text and "ServerReflection" not in place
    ]


def test_no_call_is_told_a_path_a_secret_or_a_traceback(
    world: World,
) -> None:
    """Every RPC, asked everything, with a token and without (F10)."""
    sidecar, channel, folder, _ = world
    for metadata in ([("authorization", f"Bearer {TOKEN}")], [("authorization", "Bearer x")], []):
        overheard = overhear(channel, sidecar, metadata)
        known = bool(metadata) and metadata[0][1].endswith(TOKEN)
        expected = {"INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE"} if known else {"UNAUTHENTICATED"}
        assert expected <= overheard.statuses
        assert leaks(overheard, folder) == []


def test_no_page_tells_a_path_a_secret_or_a_traceback(
    world: World,
) -> None:
    """Probes, metrics, the page and what is not there; also while renewed files cannot be used (F10)."""
    sidecar, _, folder, ours = world
    (folder / "token").write_text("short")
    (folder / "server.pem").write_text("broken")
    for renewal in sidecar.sidecar.renewals:
        renewal.refresh()
        assert renewal.problem
    trusting = ssl.create_default_context(cadata=ours.pem.decode())
    overheard = Overheard()
    for page in PAGES:
        request = urllib.request.Request(f"https://localhost:{sidecar.sidecar.http_port}{page}")
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=10) as answer:  # noqa: S310 - ours
                overheard.note(page, answer.read(1 << 20).decode(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                overheard.note(page, error.read().decode(), error.headers)
    assert len(overheard.texts) == 2 * len(PAGES)
    assert leaks(overheard, folder) == []
