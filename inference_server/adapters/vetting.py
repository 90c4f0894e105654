"""The checks of a model file's bytes before they are loaded. Pure; it runs in the vetting process.

The steps, in order; the first that fails ends the list and its text is the reason:
parse, self-contained, operators, load, contract, answers.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from google.protobuf.message import DecodeError

from inference_server.adapters.footprint import allocated_bytes
from inference_server.adapters.onnx_messages import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
)
from inference_server.adapters.onnx_session import OnnxSession, lacks_memory, plain, sample_inputs
from inference_server.adapters.steadiness import is_steady
from inference_server.adapters.verdict_text import too_big
from inference_server.core.contract import METADATA_KEY, Contract, OutputKind, OutputMeaning
from inference_server.core.errors import ContractError
from inference_server.core.tensor import VARIABLE, TensorSpec
from inference_server.serving.loader import LoadError, NoRoomError
from inference_server.serving.vetting import Step, Verdict

# The last one holds operators of ONNX Runtime's own, compiled into it; quantised models use them. Any other
# domain would need a library that is loaded into the server.
OPERATOR_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Names in a file may be as long as the file; one that fills the status would hide what is said of all others.
MAX_TEXT: Final = 2_000
NUMBERS: Final = ("FP16", "FP32", "FP64")
KIND_DATATYPES: Final = {
    OutputKind.LABEL: ("INT64", "INT32", "BYTES"),
    OutputKind.PROBABILITIES: NUMBERS,
    OutputKind.VALUE: NUMBERS,
}


class _RefusedError(Exception):
    """A step that failed; the text is the reason."""


def vet(model: bytes, expected_name: str, memory_bytes: int | None = None) -> Verdict:
    """Judge a file's bytes, for a model that its place in the repository gives the name `expected_name`.

    `memory_bytes` is what this process may take for it, where whoever started it has set such a bound: the
    reason names it. The verdict's own figure is the growth of what the process holds, from before loading to
    after the golden rows, and the file's bytes, which a session keeps. It leaves out what loading takes for
    a moment and what the first session of a process costs once.
    """
    return _Vetting(model, expected_name, memory_bytes).verdict()


class _Vetting:
    """One file's way through the steps; each leaves what the later ones need."""

    def __init__(self, model: bytes, expected_name: str, memory_bytes: int | None) -> None:
        self._model = model
        self._expected_name = expected_name
        self._memory_bytes = memory_bytes
        self._before_bytes: int | None = None
        self._parsed = ModelProto()
        self._session: OnnxSession | None = None
        self._contract: Contract | None = None
        self._steady = False

    def verdict(self) -> Verdict:
        ways: tuple[tuple[str, Callable[[], str]], ...] = (
            ("parse", self._parse),
            ("self-contained", self._find_external_data),
            ("operators", self._find_custom_operators),
            ("load", self._load),
            ("contract", self._read_contract),
            ("answers", self._answer),
        )
        steps: list[Step] = []
        for name, way in ways:
            try:
                steps.append(_step(name, way()))
            except (MemoryError, NoRoomError):
                steps.append(_step(name, too_big(self._memory_bytes), passed=False))
                break
            except (_RefusedError, LoadError) as error:
                steps.append(_step(name, str(error), passed=False))
                break
            except ContractError as error:
                steps.append(_step(name, f"contract: {error}", passed=False))
                break
        session = self._session
        return Verdict(
            digest=hashlib.sha256(self._model).hexdigest(),
            steps=tuple(steps),
            contract=self._contract,
            inputs=session.inputs if session else (),
            outputs=session.outputs if session else (),
            memory_bytes=self._taken_bytes() if session else 0,
            steady=self._steady,
        )

    def _taken_bytes(self) -> int:
        before, after = self._before_bytes, allocated_bytes()
        grown = 0 if before is None or after is None else max(0, after - before)
        return len(self._model) + grown

    def _parse(self) -> str:
        try:
            self._parsed.ParseFromString(self._model)
        except DecodeError:
            raise _RefusedError("it cannot be read as ONNX: cut off, or no ONNX file") from None
        if not self._parsed.graph.output:
            raise _RefusedError("it cannot be read as ONNX: it holds no graph with outputs")
        opsets = ", ".join(
            f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in self._parsed.opset_import
        )
        return f"ONNX IR {self._parsed.ir_version}, operators of {opsets or 'no set'}"

    def _find_external_data(self) -> str:
        for tensor in _tensors(self._parsed):
            if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
                raise _RefusedError(
                    f"tensor {tensor.name!r} keeps its data in another file; a model is one file here"
                )
        return "all data is in the file"

    def _find_custom_operators(self) -> str:
        own = {(function.domain, function.name) for function in self._parsed.functions}
        for node in _nodes(self._parsed):
            if node.domain not in OPERATOR_DOMAINS and (node.domain, node.op_type) not in own:
                raise _RefusedError(
                    f"operator {node.op_type!r} is of the domain {node.domain!r}; "
                    "only ai.onnx, ai.onnx.ml and com.microsoft are served"
                )
        self._steady = is_steady(self._parsed)
        return "no custom operators"

    def _load(self) -> str:
        self._parsed = ModelProto()  # it has done its work, and takes as much as the file
        self._before_bytes = allocated_bytes()
        self._session = OnnxSession(self._model)
        return " → ".join(
            ", ".join(str(spec) for spec in specs) or "nothing"
            for specs in (self._session.inputs, self._session.outputs)
        )

    def _read_contract(self) -> str:
        session = self._loaded()
        document = session.metadata.get(METADATA_KEY)
        if document is None:
            return "none: served as plain ONNX, unverified"
        contract = Contract.from_json(document)
        if contract.model != self._expected_name:
            raise _RefusedError(
                f"contract: it is for the model {contract.model!r}, "
                f"the file's place says {self._expected_name!r}"
            )
        _check_input(session.inputs, len(contract.feature_names))
        specs = {spec.name: spec for spec in session.outputs}
        for output in contract.outputs:
            _check_output(output, specs)
        self._contract = contract
        return f"{len(contract.feature_names)} features, hash {contract.hash}"

    def _answer(self) -> str:
        session = self._loaded()
        contract = self._contract
        if contract is None:
            inputs = sample_inputs(session.inputs)
            wanted = [spec.name for spec in session.outputs]
        else:
            inputs = {session.inputs[0].name: contract.golden.inputs}
            wanted = [output.name for output in contract.outputs]
        try:
            arrays = session.run(inputs, wanted)
        except Exception as error:  # noqa: BLE001 - the runtime raises kinds that share no base
            if lacks_memory(error):
                raise MemoryError from None
            raise _RefusedError(f"it does not run: {plain(error)}") from None
        if contract is None:
            return "it runs; what it should answer is not known"
        rows = len(contract.golden.inputs)
        mismatches = contract.golden.mismatches(dict(zip(wanted, arrays, strict=True)))
        if mismatches:
            worst = max(mismatches, key=lambda mismatch: mismatch.error)
            raise _RefusedError(f"it does not answer as the estimator did: {worst}")
        return f"{rows} golden rows answered as the estimator did"

    def _loaded(self) -> OnnxSession:
        if self._session is None:
            raise RuntimeError("the steps are out of order: nothing is loaded yet")
        return self._session


def _step(name: str, text: str, *, passed: bool = True) -> Step:
    return Step(name, passed, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")


def _check_input(inputs: tuple[TensorSpec, ...], n_features: int) -> None:
    expected = f"one float32 input of [any number of rows, {n_features} features]"
    if len(inputs) != 1:
        raise _RefusedError(f"contract: expected {expected}, the file takes {len(inputs)} inputs")
    (spec,) = inputs
    if spec.datatype != "FP32" or len(spec.shape) != 2 or spec.shape[0] != VARIABLE:
        raise _RefusedError(f"contract: expected {expected}, the file takes {spec}")
    if spec.shape[1] not in (VARIABLE, n_features):
        raise _RefusedError(f"contract: it names {n_features} features, the file takes {spec}")


def _check_output(output: OutputMeaning, specs: dict[str, TensorSpec]) -> None:
    spec = specs.get(output.name)
    if spec is None:
        raise _RefusedError(
            f"contract: no output {output.name!r}; the file has {', '.join(map(repr, specs))}"
        )
    datatypes = KIND_DATATYPES[output.kind]
    if spec.datatype not in datatypes:
        raise _RefusedError(
            f"contract: a {output.kind.value} is {' or '.join(datatypes)}, the file has {spec}"
        )
    classes = len(output.classes)
    if (
        output.kind is OutputKind.PROBABILITIES
        and len(spec.shape) == 2
        and spec.shape[1] not in (VARIABLE, classes)
    ):
        raise _RefusedError(f"contract: output {output.name!r} names {classes} classes, the file has {spec}")


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        # A function's body is a graph but for its type.
        yield from (node for graph in _graphs(GraphProto(node=function.node)) for node in graph.node)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield sparse.values
        yield sparse.indices


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)
