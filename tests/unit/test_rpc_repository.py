"""The `model_repository` extension: what the index proves, and what load and unload take."""

import asyncio
import json
from typing import Any

import pytest
from open_inference.v2 import inference_pb2 as oip
from servables import CONTRACT, FunctionServable

from inference_server.core.errors import InvalidRequestError, RefusedError
from inference_server.core.servable import ServableId, State, VersionStatus, VettingResult
from inference_server.rpc.inspection import EXTENSIONS
from inference_server.rpc.method import CallContext
from inference_server.rpc.repository import MAX_UPLOADS, Repository
from inference_server.serving.registry import Registry, Standing

CALL = CallContext(None, "r-1")
VETTED = VettingResult(1_795_345_200_999_999_999, verified=True, text="3 golden rows", memory_bytes=1)


class Operator:
    """Writes down what is loaded and unloaded, or refuses."""

    def __init__(self) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None

    async def load(self, name: str, uploads: Any) -> None:
        self._take("load", name, dict(uploads))

    async def unload(self, name: str) -> None:
        self._take("unload", name)

    def _take(self, *order: Any) -> None:
        if self.refusal:
            raise self.refusal
        self.orders.append(order)


class Extension:
    """The extension over a registry and such an operator."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.operator = Operator()
        self.rows = {
            method.path.rpartition("/")[2]: method.unary
            for method in Repository(self.registry, self.operator).methods()
        }

    def index(self, **fields: Any) -> list[tuple[str, str, str, str]]:
        """Ask for the index."""
        answer = asyncio.run(self.rows["RepositoryIndex"](oip.RepositoryIndexRequest(**fields), CALL))
        return [(model.name, model.version, model.state, model.reason) for model in answer.models]

    def load(self, *, repository: str = "", **parameters: Any) -> None:
        """Ask for a load of momentum with these parameters, each as (kind, value)."""
        request = oip.RepositoryModelLoadRequest(repository_name=repository, model_name="momentum")
        for name, (kind, value) in parameters.items():
            setattr(request.parameters[name], kind, value)
        asyncio.run(self.rows["RepositoryModelLoad"](request, CALL))

    def unload(self, *, repository: str = "", **parameters: Any) -> None:
        """Ask for an unload of momentum with these parameters, each as (kind, value)."""
        request = oip.RepositoryModelUnloadRequest(repository_name=repository, model_name="momentum")
        for name, (kind, value) in parameters.items():
            setattr(request.parameters[name], kind, value)
        asyncio.run(self.rows["RepositoryModelUnload"](request, CALL))


@pytest.fixture
def extension() -> Extension:
    """An extension over nothing yet."""
    return Extension()


def test_the_extension_is_advertised() -> None:
    """Now that all its RPCs are answered, a client that asks for extensions finds it."""
    assert "model_repository" in EXTENSIONS


def test_the_index_proves_what_is_served(extension: Extension) -> None:
    """A READY version has its whole digest, its contract, and when and with what outcome it was vetted."""
    extension.registry.publish(FunctionServable(version=3), 1, VETTED)
    extension.registry.publish(FunctionServable("plain", contract=None), 1, VETTED)
    (momentum, plain) = extension.index()
    assert momentum == (
        *("momentum", "3", "READY"),
        f"digest {3:064x}, contract {CONTRACT.hash}, vetted 2026-11-22T11:00:00Z: 3 golden rows",
    )
    assert plain[3] == f"digest {1:064x}, unverified, vetted 2026-11-22T11:00:00Z: 3 golden rows"


def test_the_index_says_first_what_is_not_served(extension: Extension) -> None:
    """A5: what stands against the newest file comes before the proof, at the version that answers instead."""
    extension.registry.publish(FunctionServable(version=3), 1, VETTED)
    extension.registry.publish(FunctionServable(version=2), 1, VETTED)
    extension.registry.set_status(VersionStatus(ServableId("momentum", 4), State.END, reason="cut off"))
    extension.registry.set_standing("momentum", Standing("version 4: cut off", labels={"old": 2}))
    extension.registry.set_standing("gone", Standing("no version in the repository"))
    gone, fourth, third, second = extension.index()
    assert gone == ("gone", "", "UNAVAILABLE", "no version in the repository")
    assert fourth == ("momentum", "4", "UNAVAILABLE", "cut off")
    assert third[3].startswith(f"version 4: cut off; serving digest {3:064x}, contract ")
    assert second[3].startswith(f"digest {2:064x}, contract ")
    assert [row[:2] for row in extension.index(ready=True)] == [("momentum", "3"), ("momentum", "2")]


def test_uploads_and_what_holds_anyway_are_taken(extension: Extension) -> None:
    """Files come by version; a configuration that says only what is so anyway is no hindrance."""
    config = {"name": "momentum", "platform": "onnxruntime_onnx", "backend": "onnxruntime"}
    extension.load(
        **{
            "config": ("string_param", json.dumps(config | {"max_batch_size": 0})),
            "file:3/model.onnx": ("bytes_param", b"three"),
            "file:9223372036854775807/model.onnx": ("bytes_param", b"last"),
        }
    )
    extension.load()
    extension.load(config=("string_param", "{}"))
    assert extension.operator.orders == [
        ("load", "momentum", {3: b"three", 2**63 - 1: b"last"}),
        ("load", "momentum", {}),
        ("load", "momentum", {}),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "value", "text"),
    [
        ("file:1/other.onnx", "bytes_param", b"", "'file:1/other.onnx': expected file:VERSION/model.onnx"),
        ("file:model.onnx", "bytes_param", b"", "expected file:VERSION/model.onnx"),
        ("file:../1/model.onnx", "bytes_param", b"", "expected file:VERSION/model.onnx"),
        ("file:01/model.onnx", "bytes_param", b"", "without leading zeros"),
        ("file:0/model.onnx", "bytes_param", b"", "an integer from 1"),
        ("file:-1/model.onnx", "bytes_param", b"", "an integer from 1"),
        ("file:9223372036854775808/model.onnx", "bytes_param", b"", "to 9223372036854775807"),
        ("file:1/model.onnx\n", "bytes_param", b"", r"'file:1/model.onnx\\n': expected"),
        ("file:1/model.onnx", "string_param", "x", "expected bytes_param, came string_param"),
        ("file:1/model.onnx", "int64_param", 1, "expected bytes_param, came int64_param"),
        ("config", "bytes_param", b"{}", "'config': expected string_param, came bytes_param"),
        ("config", "string_param", "", "expected a JSON object"),
        ("config", "string_param", "[]", "expected a JSON object"),
        ("config", "string_param", "[" * 60000, "expected a JSON object"),
        ("config", "string_param", " " * 65537, "at most 65536 characters, came 65537"),
        ("config", "string_param", '{"instance_group": []}', "'instance_group' would not be heeded"),
        ("config", "string_param", '{"name": "other"}', "name: expected \"momentum\", came 'other'"),
        ("config", "string_param", '{"backend": "tensorrt"}', 'backend: expected "onnxruntime"'),
        ("config", "string_param", '{"platform": ["a"]}', "platform: expected .*, came a list"),
        ("config", "string_param", '{"max_batch_size": 8}', "max_batch_size: expected 0, came '8'"),
        ("config", "string_param", '{"max_batch_size": false}', "max_batch_size: expected 0, came 'False'"),
        ("priority", "int64_param", 1, "'priority': expected config and file:VERSION/model.onnx only"),
    ],
)
def test_what_would_not_be_heeded_is_refused(
    extension: Extension, name: str, kind: str, value: Any, text: str
) -> None:
    """D15: a parameter that is unknown, of the wrong kind or asks for what is not done is refused, named."""
    with pytest.raises(InvalidRequestError, match=text):
        extension.load(**{name: (kind, value)})
    assert extension.operator.orders == []


def test_a_parameter_without_a_value_is_refused(extension: Extension) -> None:
    """D15: a parameter whose value is not set is told what was expected."""
    request = oip.RepositoryModelLoadRequest(model_name="momentum")
    request.parameters["config"].SetInParent()
    with pytest.raises(InvalidRequestError, match="expected string_param, came none"):
        asyncio.run(extension.rows["RepositoryModelLoad"](request, CALL))


def test_uploads_are_bounded(extension: Extension) -> None:
    """As many files as the bound says are taken; one more is told the bound."""
    files = {f"file:{version}/model.onnx": ("bytes_param", b"x") for version in range(1, MAX_UPLOADS + 1)}
    extension.load(**files)
    with pytest.raises(InvalidRequestError, match="at most 16 files, came 17"):
        extension.load(**files, **{"file:99/model.onnx": ("bytes_param", b"x")})
    assert len(extension.operator.orders) == 1


def test_unload_takes_what_its_clients_always_send(extension: Extension) -> None:
    """`unload_dependents` is taken whatever it says, as nothing depends on a model; no other is."""
    extension.unload(unload_dependents=("bool_param", True))
    extension.unload()
    assert extension.operator.orders == [("unload", "momentum")] * 2
    with pytest.raises(InvalidRequestError, match="'unload_dependents': expected bool_param, came int64"):
        extension.unload(unload_dependents=("int64_param", 1))
    with pytest.raises(InvalidRequestError, match="'force': expected none but unload_dependents"):
        extension.unload(force=("bool_param", True))


def test_there_is_one_repository(extension: Extension) -> None:
    """A repository asked for by name is refused in each of the three calls, never passed over."""
    for ask in (
        lambda: extension.load(repository="other"),
        lambda: extension.unload(repository="other"),
        lambda: extension.index(repository_name="other"),
    ):
        with pytest.raises(InvalidRequestError, match=r"repository_name: expected none.*'other'"):
            ask()
    assert extension.operator.orders == []


def test_a_refusal_passes_as_it_is(extension: Extension) -> None:
    """A21: where control is by files, the caller gets the operator's own words."""
    extension.operator.refusal = RefusedError("control is by files")
    with pytest.raises(RefusedError, match="control is by files"):
        extension.load()
    with pytest.raises(RefusedError, match="control is by files"):
        extension.unload()
