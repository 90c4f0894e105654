"""A verdict as JSON text, in which it leaves the vetting process, and a reason that both sides give."""

import json
from typing import Any, TypeVar

from inference_server.core.contract import Contract
from inference_server.core.size import shown_bytes
from inference_server.core.tensor import TensorSpec
from inference_server.serving.vetting import Step, Verdict

T = TypeVar("T")


def too_big(memory_bytes: int | None) -> str:
    """Return the reason for a file that wants more memory than its judge may take."""
    if memory_bytes is None:
        return "it needs more memory than there is"
    return f"it needs more than the {shown_bytes(memory_bytes)} that vetting may take"


def write_verdict(verdict: Verdict) -> bytes:
    """Write the verdict; what `changes` holds is not part of it."""
    document = {
        "digest": verdict.digest,
        "steps": [[step.name, step.passed, step.text] for step in verdict.steps],
        "contract": verdict.contract.to_json() if verdict.contract else None,
        "inputs": [_write_spec(spec) for spec in verdict.inputs],
        "outputs": [_write_spec(spec) for spec in verdict.outputs],
        "memory_bytes": verdict.memory_bytes,
        "steady": verdict.steady,
    }
    return json.dumps(document).encode()


def read_verdict(text: bytes) -> Verdict:
    """Read it back; ValueError for what `write_verdict` does not write.

    A file that got hold of its judge must not pass by an answer that only looks like a verdict.
    """
    try:
        return _read(json.loads(text))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no verdict: {error!r}") from None


def _read(document: Any) -> Verdict:
    contract = document["contract"]
    steps = tuple(_read_step(step) for step in document["steps"])
    if not steps:
        raise ValueError("no verdict: it has no steps")
    return Verdict(
        digest=_typed(str, document["digest"]),
        steps=steps,
        contract=None if contract is None else Contract.from_json(contract),
        inputs=tuple(_read_spec(spec) for spec in document["inputs"]),
        outputs=tuple(_read_spec(spec) for spec in document["outputs"]),
        memory_bytes=_typed(int, document["memory_bytes"]),
        steady=_typed(bool, document["steady"]),
    )


def _read_step(document: Any) -> Step:
    name, passed, told = document
    return Step(_typed(str, name), _typed(bool, passed), _typed(str, told))


def _write_spec(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.datatype, list(spec.shape)]


def _read_spec(document: Any) -> TensorSpec:
    name, datatype, shape = document
    return TensorSpec(_typed(str, name), datatype, tuple(_typed(int, size) for size in shape))


def _typed(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, came {value!r:.200}")
    return value
