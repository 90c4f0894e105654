"""What `models` tells a person of a version of a model: contract, provenance, golden rows."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.contract import Contract, NanPolicy, OutputMeaning
from inference_server.core.golden import GoldenMismatch, GoldenOutput
from inference_server.core.size import shown_bytes
from inference_server.core.tensor import VARIABLE
from inference_server.report import SHORT_DIGEST, plain_table, shown_values

# Golden rows that are written out; there may be hundreds.
SHOWN_ROWS: Final = 3


def models_view(models: Iterable[wire.ModelDescription]) -> RenderableType:
    """Return a line for each model: what an unversioned call gets, what it takes and what it says."""
    table = plain_table("model", "version", "features", "outputs")
    for model in models:
        default = next((each for each in model.versions if each.version == model.default_version), None)
        if default is None:
            table.add_row(model.name, "none")
        elif default.HasField("contract"):
            names = [output.name for output in default.contract.outputs]
            features = ", ".join(default.contract.feature_names)
            table.add_row(model.name, str(default.version), features, ", ".join(names))
        else:
            inputs, outputs = (", ".join(map(_spec, specs)) for specs in (default.inputs, default.outputs))
            table.add_row(model.name, str(default.version), f"no contract: {inputs}", outputs)
    if not table.rows:
        table.add_row("no models")
    return table


def card_view(
    model: wire.ModelDescription, version: wire.VersionDescription, contract: Contract | None
) -> Group:
    """Return what is known of a version; without a contract, its signature."""
    callers = ["calls without a version"] if version.version == model.default_version else []
    callers += [
        f"label {label}" for label, number in sorted(model.labels.items()) if number == version.version
    ]
    title = f"{model.name}:{version.version} {version.digest[:SHORT_DIGEST]}"
    facts = plain_table()
    facts.add_column(overflow="fold")
    facts.add_column(overflow="fold")
    for name, told in _facts(version, contract, ", ".join(callers)):
        facts.add_row(Text(name, style="bold"), told)
    parts: list[RenderableType] = [Text(title, style="bold"), facts, Text()]
    if contract is None:
        parts.append(_signature(version))
    else:
        parts += [_features(contract), Text(), _outputs(contract.outputs), Text(), golden_view(contract)]
    return Group(*parts)


def golden_view(contract: Contract) -> Group:
    """Return the first golden rows: what goes in, and what comes out of a model that answers rightly."""
    golden = contract.golden
    rows = len(golden.inputs)
    lines = [Text(f"{rows} golden rows, answered by the estimator as it was fitted", style="bold")]
    for row in range(min(rows, SHOWN_ROWS)):
        given = zip(contract.feature_names, shown_values(golden.inputs[row]), strict=True)
        lines.append(Text(f"{row}: " + " ".join(f"{name}={value}" for name, value in given)))
        expected = (
            f"{output.name} {' '.join(shown_values(np.atleast_1d(output.expected[row]).ravel()))}"
            for output in golden.outputs
        )
        lines.append(Text(f"   gives {', '.join(expected)}"))
    if rows > SHOWN_ROWS:
        lines.append(Text(f"and {rows - SHOWN_ROWS} more", style="dim"))
    lines += [Text(f"{output.name}: {_tolerance(output)}") for output in golden.outputs]
    return Group(*lines)


def check_view(contract: Contract, mismatches: Sequence[GoldenMismatch]) -> Group:
    """Return how the running sidecar answered the golden rows: that all fit, or those that are worst."""
    rows = len(contract.golden.inputs)
    if not mismatches:
        return Group(Text(f"asked now: all {rows} golden rows are answered within tolerance", style="green"))
    lines = [Text(f"asked now: not all of {rows} golden rows are answered within tolerance", style="red")]
    return Group(*lines, *(Text(str(mismatch)) for mismatch in mismatches))


def _facts(
    version: wire.VersionDescription, contract: Contract | None, callers: str
) -> Iterable[tuple[str, str]]:
    if callers:
        yield "answers", callers
    if version.vetted_at_ns:
        yield "vetted", f"{_moment(version.vetted_at_ns)}: {version.vetting}"
        yield "memory", shown_bytes(version.memory_bytes)
    yield "run", f"{version.warm_up_ns / 1000:.0f} us for a row, when it was warmed up"
    if contract is None:
        yield "contract", "none: the sidecar serves what the file takes and gives, and vouches for nothing"
        return
    yield "contract", contract.hash[:SHORT_DIGEST]
    yield "estimator", contract.estimator
    libraries = ", ".join(f"{name} {number}" for name, number in contract.libraries)
    yield "trained", f"{_moment(contract.trained_at_ns)} with {libraries}"
    current = "the current one included" if contract.includes_current_tick else "all before the current one"
    yield "window", f"{contract.window} ticks of one instrument, {current}"
    takes = {NanPolicy.REFUSE: "refused", NanPolicy.ACCEPT: "taken: the model was trained with it"}
    yield "NaN", takes[contract.nan_policy]


def _tolerance(output: GoldenOutput) -> str:
    if not output.atol and not output.rtol:
        return "must be the same"
    return f"may be off by {output.atol:g}" + (f" and {output.rtol:g} of the value" if output.rtol else "")


def _features(contract: Contract) -> Table:
    table = plain_table("#", "feature", "least in training", "most in training")
    for place in (0, 2, 3):
        table.columns[place].justify = "right"
    for index, (name, span) in enumerate(
        zip(contract.feature_names, contract.training_ranges, strict=True), start=1
    ):
        table.add_row(str(index), name, f"{span.low:.6g}", f"{span.high:.6g}")
    return table


def _outputs(outputs: Iterable[OutputMeaning]) -> Table:
    table = plain_table("output", "kind", "classes")
    for output in outputs:
        meant = (
            f"{name} is {meaning}" if meaning else f"{name} means none of them"
            for name, meaning in zip(output.classes, output.meanings, strict=True)
        )
        table.add_row(output.name, output.kind.value, ", ".join(meant))
    return table


def _signature(version: wire.VersionDescription) -> Table:
    table = plain_table("", "name", "datatype", "shape")
    for kind, specs in (("input", version.inputs), ("output", version.outputs)):
        for spec in specs:
            table.add_row(kind, spec.name, spec.datatype, _shape(spec.shape))
    return table


def _spec(spec: wire.TensorSpec) -> str:
    return f"{spec.name} {spec.datatype}{_shape(spec.shape)}"


def _shape(shape: Iterable[int]) -> str:
    return f"[{', '.join('any' if size == VARIABLE else str(size) for size in shape)}]"


def _moment(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"
