"""Whether a file may take another's place: what clients bound to the old one would notice."""

import re
from collections.abc import Sequence
from typing import Final, Protocol

from inference_server.core.contract import Contract
from inference_server.core.tensor import TensorSpec

# What the contract's hash covers, and how each is called in the document.
COMPARED: Final = {
    "feature_names": "features.names",
    "window": "features.window",
    "includes_current_tick": "features.includes_current_tick",
    "nan_policy": "features.nan_policy",
    "outputs": "outputs",
}


class Promise(Protocol):
    """What both a servable and a verdict say."""

    @property
    def contract(self) -> Contract | None:
        """None for a model without one."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The signature's inputs."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The signature's outputs."""
        ...


def contract_changes(old: Promise, new: Promise) -> tuple[str, ...]:
    """Name each difference that clients of the old one would notice; empty when they would notice none.

    Between two models without a contract the signature is all there is to compare.
    """
    if old.contract is None and new.contract is None:
        return _signature_changes(old, new)
    if old.contract is None or new.contract is None:
        before, after = ("a contract" if it.contract else "no contract" for it in (old, new))
        return (f"{before} before, {after} now",)
    return tuple(
        f"{title}: {_told(getattr(old.contract, field))} before, {_told(getattr(new.contract, field))} now"
        for field, title in COMPARED.items()
        if getattr(old.contract, field) != getattr(new.contract, field)
    )


def change_refusal(replaced: str, changes: Sequence[str]) -> str:
    """Return why a file with these changes is refused in the place of what `replaced` names."""
    return f"its contract is not that of {replaced}, which it would replace: {'; '.join(changes)}"


def _signature_changes(old: Promise, new: Promise) -> tuple[str, ...]:
    sides = (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs))
    return tuple(
        f"{side}: {_specs(before)} before, {_specs(after)} now"
        for side, before, after in sides
        if before != after
    )


def _specs(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs))


def _told(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return re.sub(r"<\w+\.(\w+): '[^']*'>", r"\1", str(value))
