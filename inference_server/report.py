"""What `inference-server status` and `predict` show a person, and the same as JSON."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from rich.console import Group
from rich.table import Table
from rich.text import Text
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.tensor import NUMPY_DTYPES
from inference_server.serving.vetting import Verdict

SHORT_DIGEST = 12
NAME_WIDTH = 24
STATE_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "UNLOADING": "yellow", "END": "red"}


def status_json(response: wire.DescribeModelsResponse) -> dict[str, Any]:
    """Return everything that the sidecar says, with the field names of the .proto."""
    return MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def status_view(response: wire.DescribeModelsResponse, target: str) -> Group:
    """Return a row a version, the default one marked, and below what is to be said of each model.

    The texts stand below, where they have the whole width: a terminal of 80 columns is enough.
    """
    table = _table("model")
    for heading in ("version", "state", "digest", "contract", "since (UTC)"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    notes = _table()
    notes.add_column(max_width=NAME_WIDTH, overflow="fold")
    notes.add_column(overflow="fold")
    for model in response.models:
        for version in model.versions:
            table.add_row(*_version_cells(model, version))
        if not model.versions:
            table.add_row(model.name, "none")
        for note in _notes(model):
            notes.add_row(model.name, Text(note, style="red"))
    if not response.models:
        table.add_row("no models")
    title = Text(f"{target}: {'ready' if response.ready else 'NOT READY'}", style="bold")
    return Group(title, table, Text(), notes) if notes.rows else Group(title, table)


def prediction_view(result: wire.PartResult) -> Group:
    """Return the outputs of one row, and which model bytes made them."""
    table = _table("output", "datatype", "value")
    for tensor in result.outputs:
        table.add_row(tensor.name, tensor.datatype, _values(tensor))
    title = Text(f"{result.model}:{result.version} {result.digest[:SHORT_DIGEST]}", style="bold")
    return Group(title, table)


def verdict_view(file: Path, verdict: Verdict) -> Group:
    """Return a row a vetting step, and what the contract says."""
    table = _table()
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
    for change in verdict.changes:
        table.add_row("change", Text("differs", style="yellow"), change)
    title = f"{file} {verdict.digest[:SHORT_DIGEST]}".rstrip()
    return Group(Text(f"{title}: {'refused' if verdict.refusal else 'good'}", style="bold"), table)


def _table(*headings: str) -> Table:
    table = Table(box=None, show_header=bool(headings), pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _notes(model: wire.ModelDescription) -> list[str]:
    notes = [model.problem] if model.problem else []
    return notes + [
        f"version {version.version}: {version.reason}"
        for version in model.versions
        if version.reason and version.reason not in model.problem
    ]


def _version_cells(model: wire.ModelDescription, version: wire.VersionDescription) -> list[str | Text]:
    state = wire.VersionDescription.State.Name(version.state)
    default = " *" if version.version == model.default_version else ""
    since = ""
    if version.available_since_ns:
        since = f"{datetime.fromtimestamp(version.available_since_ns / 1e9, UTC):%m-%d %H:%M:%S}"
    contract = "unverified" if state == "AVAILABLE" else ""
    if version.HasField("contract"):
        contract = version.contract.hash[:SHORT_DIGEST]
    return [
        model.name,
        f"{version.version}{default}",
        Text(state, style=STATE_STYLES.get(state, "")),
        version.digest[:SHORT_DIGEST],
        contract,
        since,
        str(version.rows_answered) if state == "AVAILABLE" else "",
    ]


def _values(tensor: wire.Tensor) -> str:
    if tensor.datatype == "BYTES":
        return tensor.raw[4:].decode(errors="replace")
    values = np.frombuffer(tensor.raw, dtype=NUMPY_DTYPES[tensor.datatype])
    return " ".join(f"{value:.6g}" if values.dtype.kind == "f" else str(value) for value in values)
