"""What `inference-server status` and `predict` show a person, and the same as JSON."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.tensor import NUMPY_DTYPES
from inference_server.serving.vetting import Verdict

SHORT_DIGEST = 12
STATE_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "UNLOADING": "yellow", "END": "red"}


def status_json(response: wire.DescribeModelsResponse) -> dict[str, Any]:
    """Return everything that the sidecar says, with the field names of the .proto."""
    return MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def status_table(response: wire.DescribeModelsResponse, target: str) -> Table:
    """Return a row a version, the default one marked, and below each model what is wrong with it."""
    table = Table(
        title=f"{target}: {'ready' if response.ready else 'NOT READY'}", title_justify="left", box=None
    )
    table.add_column("model", overflow="fold")
    for heading in ("version", "state", "digest", "contract", "since"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for model in response.models:
        for version in model.versions:
            table.add_row(*_version_cells(model, version))
        if model.problem:
            cells = ["", "", ""] if model.versions else [model.name, "", "none"]
            table.add_row(*cells, "", "", "", "", Text(model.problem, style="red"))
    if not response.models:
        table.add_row("no models", *[""] * 7)
    return table


def prediction_table(result: wire.PartResult) -> Table:
    """Return the outputs of one row, and which model bytes made them."""
    table = Table(
        title=f"{result.model}:{result.version} {result.digest[:SHORT_DIGEST]}",
        title_justify="left",
        box=None,
    )
    table.add_column("output")
    table.add_column("datatype")
    table.add_column("value", overflow="fold")
    for tensor in result.outputs:
        table.add_row(tensor.name, tensor.datatype, _values(tensor))
    return table


def verdict_table(file: Path, verdict: Verdict) -> Table:
    """Return a row a vetting step, and what the contract says."""
    table = Table(
        title=f"{file} {verdict.digest[:SHORT_DIGEST]}: {'refused' if verdict.refusal else 'good'}",
        title_justify="left",
        box=None,
        show_header=False,
    )
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
    return table


def _version_cells(model: wire.ModelDescription, version: wire.VersionDescription) -> list[str | Text]:
    state = wire.VersionDescription.State.Name(version.state)
    default = " *" if version.version == model.default_version else ""
    since = ""
    if version.available_since_ns:
        since = f"{datetime.fromtimestamp(version.available_since_ns / 1e9, UTC):%m-%d %H:%M:%S}Z"
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
        version.reason,
    ]


def _values(tensor: wire.Tensor) -> str:
    if tensor.datatype == "BYTES":
        return tensor.raw[4:].decode(errors="replace")
    values = np.frombuffer(tensor.raw, dtype=NUMPY_DTYPES[tensor.datatype])
    return " ".join(f"{value:.6g}" if values.dtype.kind == "f" else str(value) for value in values)
