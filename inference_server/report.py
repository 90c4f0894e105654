"""What the commands of `inference-server` show a person, and the same as JSON."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from open_inference.v2 import inference_pb2 as oip
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.size import shown_bytes
from inference_server.core.tensor import Array
from inference_server.rpc.caller import output_array
from inference_server.serving.vetting import Verdict

SHORT_DIGEST = 12
NAME_WIDTH = 24
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
STATE_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "UNLOADING": "yellow"}


def status_json(
    response: wire.DescribeModelsResponse, statistics: oip.ModelStatisticsResponse
) -> dict[str, Any]:
    """Return everything that the sidecar says, with the field names of the .proto files."""
    return _document(response) | _document(statistics)


def status_view(
    response: wire.DescribeModelsResponse, target: str, now_ns: int, calls: Table | None = None
) -> Group:
    """Return what is served and its calls, what is to be said of each model, and what proves what is served.

    The default version of each model is marked. Texts have the rest of the line to themselves: a terminal of
    80 columns is enough. `now_ns` is wall time.
    """
    table = plain_table("model")
    for heading in ("version", "state", "digest", "contract", "since (UTC)"):
        table.add_column(heading, no_wrap=True)
    notes = plain_table()
    notes.add_column(max_width=NAME_WIDTH, overflow="fold")
    notes.add_column(overflow="fold")
    for model in response.models:
        for version in model.versions:
            table.add_row(*_version_cells(model, version))
        if not model.versions:
            table.add_row(model.name, "none")
        for note in _notes(model, now_ns):
            notes.add_row(model.name, note)
    if not response.models:
        table.add_row("no models")
    title = Text(f"{target}: {'ready' if response.ready else 'NOT READY'}", style="bold")
    parts: list[RenderableType] = [title, table]
    for more in (calls, notes, _proofs(response.models)):
        if more is not None and more.rows:
            parts += [Text(), more]
    return Group(*parts)


def rollback_view(model: str, done: orders.RollbackResponse) -> Group:
    """Return from what to what a model went back, and what comes of it."""
    title = (
        f"{model}: back from version {done.from_version} ({done.from_digest[:SHORT_DIGEST]}) "
        f"to version {done.to_version} ({done.to_digest[:SHORT_DIGEST]})"
    )
    lines = [Text(title, style="bold")]
    if done.moved_labels:
        lines.append(Text(f"moved with it: {', '.join(done.moved_labels)}"))
    lines.append(
        Text(
            f"What was rolled back is held until its file changes; "
            f"'inference-server resume {model}' takes it up again."
        )
    )
    return Group(*lines)


def prediction_view(result: wire.PartResult, contract: wire.Contract) -> Group:
    """Return the outputs of one row, what their classes mean, and which model bytes made them."""
    table = plain_table("output", "datatype", "value")
    meant = {output.name: output for output in contract.outputs}
    for tensor in result.outputs:
        values = shown_values(output_array(tensor).ravel())
        table.add_row(tensor.name, tensor.datatype, _with_meanings(values, meant.get(tensor.name)))
    title = Text(f"{result.model}:{result.version} {result.digest[:SHORT_DIGEST]}", style="bold")
    return Group(title, table)


def config_view(values: Iterable[tuple[tuple[str, ...], Any, str]]) -> Group:
    """Return a TOML file that says what is in effect, with what each value comes from in a comment."""
    lines = []
    for place, value, origin in values:
        key = ".".join(name if BARE_KEY.fullmatch(name) else _toml(name) for name in place)
        line = f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
        lines.append(Text.assemble(line, (f"  # {origin}", "dim")))
    return Group(*lines)


def verdict_view(file: Path, verdict: Verdict) -> Group:
    """Return a row a vetting step, and what the contract says."""
    table = plain_table()
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in verdict.steps:
        mark = Text("passed", style="green") if step.passed else Text("FAILED", style="red")
        table.add_row(step.name, mark, step.text)
    contract = verdict.contract
    if contract is not None:
        table.add_row("contract", contract.hash[:SHORT_DIGEST], f"{contract.model}:{contract.version}")
        table.add_row("features", str(len(contract.feature_names)), ", ".join(contract.feature_names))
        table.add_row("estimator", "", contract.estimator)
    title = f"{file} {verdict.digest[:SHORT_DIGEST]}".rstrip()
    return Group(Text(f"{title}: {'refused' if verdict.refusal else 'good'}", style="bold"), table)


def _toml(value: Any) -> str:
    """Return a text, number, truth or list in TOML: as in JSON, but for one character to be escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")


def _document(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def plain_table(*headings: str) -> Table:
    """Return a table of text alone: no lines, no padding at its edges."""
    table = Table(box=None, show_header=bool(headings), pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _notes(model: wire.ModelDescription, now_ns: int) -> list[Text]:
    notes = []
    if model.problem or model.behind_since_ns:
        age = f"behind for {_age(now_ns - model.behind_since_ns)}: " if model.behind_since_ns else ""
        told = Text(model.problem, style="red") if model.problem else Text("on its way", style="yellow")
        notes.append(Text(age) + told)
    notes += [
        Text(f"version {version.version}: {version.reason}", style="red" if version.refused else "")
        for version in model.versions
        if version.reason and version.reason not in model.problem
    ]
    if model.pinned_version:
        notes.append(Text(f"pinned to {model.pinned_version} by a rollback", style="yellow"))
    if model.labels:
        notes.append(Text(f"labels: {', '.join(_labels(model))}"))
    return notes


def _labels(model: wire.ModelDescription) -> list[str]:
    available = {version.version for version in model.versions if version.state == version.AVAILABLE}
    return [
        f"{label} {version}" + ("" if version in available else " (not available)")
        for label, version in sorted(model.labels.items())
    ]


def _age(duration_ns: int) -> str:
    """Return "12 s", "3 min", "2 h 5 min" or "3 d 4 h"; clocks of two machines may disagree."""
    seconds = max(duration_ns, 0) // 10**9
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if not minutes:
        return f"{seconds} s"
    if not hours:
        return f"{minutes} min"
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min"


def _proofs(models: Iterable[wire.ModelDescription]) -> Table:
    """Return a row for each version that was vetted: when, what was found, and the memory that it takes."""
    table = plain_table("vetted")
    table.columns[0].max_width = NAME_WIDTH
    table.add_column("at (UTC)", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("found", overflow="fold")
    for model in models:
        for version in model.versions:
            if version.vetted_at_ns:
                table.add_row(
                    f"{model.name}:{version.version}",
                    _moment(version.vetted_at_ns),
                    shown_bytes(version.memory_bytes),
                    version.vetting,
                )
    return table


def _version_cells(model: wire.ModelDescription, version: wire.VersionDescription) -> list[str | Text]:
    state = wire.VersionDescription.State.Name(version.state)
    default = " *" if version.version == model.default_version else ""
    contract = "unverified" if state == "AVAILABLE" else ""
    if version.HasField("contract"):
        contract = version.contract.hash[:SHORT_DIGEST]
    return [
        model.name,
        f"{version.version}{default}",
        Text(state, style="red" if version.refused else STATE_STYLES.get(state, "")),
        version.digest[:SHORT_DIGEST],
        contract,
        _moment(version.available_since_ns) if version.available_since_ns else "",
    ]


def _moment(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // 10**9, UTC):%m-%d %H:%M:%S}"


def shown_values(values: Array) -> list[str]:
    """Return numbers with six digits, for a person; anything else as it is."""
    return [f"{value:.6g}" if values.dtype.kind == "f" else str(value) for value in values]


def class_names(output: wire.OutputMeaning) -> list[str]:
    """Return each class with what it means: "1 BUY"."""
    return [
        f"{name} {meaning}".rstrip() for name, meaning in zip(output.classes, output.meanings, strict=True)
    ]


def _with_meanings(values: list[str], output: wire.OutputMeaning | None) -> str:
    if output is not None and output.kind == output.PROBABILITIES and len(values) == len(output.classes):
        named = zip(class_names(output), values, strict=True)
        return ", ".join(f"{name}: {value}" for name, value in named)
    if output is not None and output.kind == output.LABEL:
        names = dict(zip(output.classes, class_names(output), strict=True))
        return " ".join(names.get(value, value) for value in values)
    return " ".join(values)
