"""A verdict as JSON text, the form in which it leaves the vetting process."""

import json
from typing import Any

from inference_server.core.contract import Contract
from inference_server.core.tensor import TensorSpec
from inference_server.serving.vetting import Step, Verdict


def write_verdict(verdict: Verdict) -> bytes:
    """Write the verdict; what `changes` holds is not part of it."""
    document = {
        "digest": verdict.digest,
        "steps": [[step.name, step.passed, step.text] for step in verdict.steps],
        "contract": verdict.contract.to_json() if verdict.contract else None,
        "inputs": [_write_spec(spec) for spec in verdict.inputs],
        "outputs": [_write_spec(spec) for spec in verdict.outputs],
        "memory_bytes": verdict.memory_bytes,
    }
    return json.dumps(document).encode()


def read_verdict(text: bytes) -> Verdict:
    """Read it back. Raises ValueError, KeyError or TypeError for what `write_verdict` did not write."""
    document = json.loads(text)
    contract = document["contract"]
    return Verdict(
        digest=document["digest"],
        steps=tuple(Step(name, passed, told) for name, passed, told in document["steps"]),
        contract=None if contract is None else Contract.from_json(contract),
        inputs=tuple(_read_spec(spec) for spec in document["inputs"]),
        outputs=tuple(_read_spec(spec) for spec in document["outputs"]),
        memory_bytes=int(document["memory_bytes"]),
    )


def _write_spec(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.datatype, list(spec.shape)]


def _read_spec(document: list[Any]) -> TensorSpec:
    name, datatype, shape = document
    return TensorSpec(name, datatype, tuple(shape))
