"""What `inference-server status` and `predict` show a person, and the same as JSON."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.tensor import NUMPY_DTYPES

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
    for heading in ("model", "version", "state", "digest", "contract", "available since"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rows", "warm-up"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for model in response.models:
        for version in model.versions:
            table.add_row(*_version_cells(model, version))
        if model.problem:
            cells = ["", "", ""] if model.versions else [model.name, "", "none"]
            table.add_row(*cells, "", "", "", "", "", Text(model.problem, style="red"))
    if not response.models:
        table.add_row("no models", *[""] * 8)
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


def _version_cells(model: wire.ModelDescription, version: wire.VersionDescription) -> list[str | Text]:
    state = wire.VersionDescription.State.Name(version.state)
    default = " *" if version.version == model.default_version else ""
    since = ""
    if version.available_since_ns:
        since = f"{datetime.fromtimestamp(version.available_since_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}Z"
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
        f"{version.warm_up_ns / 1000:.0f} µs" if version.warm_up_ns else "",
        version.reason,
    ]


def _values(tensor: wire.Tensor) -> str:
    if tensor.datatype == "BYTES":
        return tensor.raw[4:].decode(errors="replace")
    values = np.frombuffer(tensor.raw, dtype=NUMPY_DTYPES[tensor.datatype])
    return " ".join(f"{value:.6g}" if values.dtype.kind == "f" else str(value) for value in values)
