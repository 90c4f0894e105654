"""`predict`: one row of features, by position or by name, or the rows of a CSV file."""

import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tickserve.v1 import predictor_pb2 as wire

from inference_server.commands.answers import columns, lines
from inference_server.commands.features import FeatureError, FeatureTable, by_name, by_position
from inference_server.commands.served import served
from inference_server.commands.target import Target, VersionedModel, name_and_version, on_sidecar
from inference_server.console import ending, err, out
from inference_server.report import prediction_view
from inference_server.rpc.caller import Caller, CallError
from inference_server.serving.registry import Which

# Rows of one request: few enough that a sidecar that trades is not held up and no bound on messages is met.
MAX_ROWS: Final = 1024
MAX_REQUEST_BYTES: Final = 1 << 20
STDIN: Final = "-"


@on_sidecar()
def predict(
    target: Target,
    model: VersionedModel,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE|NAME=VALUE",
            help="One row of features: in the contract's order, or each by its name.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--csv", metavar="FILE", help="Rows of features below a header with their names; - is stdin."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="A column of the CSV that is no feature; repeatable."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the answers go. Default: stdout.")
    ] = None,
) -> None:
    """Ask a running sidecar for predictions.

    With --csv, the answers are a CSV file as well: a line for each row, in their order, with the columns
    of --keep, the outputs, and the version and digest of the model file that answered. A line that the
    model cannot take ends the command with its number.
    """
    name, which = name_and_version(model)
    # A negative value is no option, so what begins with one dash was let through; nothing begins with two.
    if unknown := [value for value in values or () if value.startswith("--")]:
        raise typer.BadParameter(f"no such option: {unknown[0]}")
    if table is not None and values:
        raise typer.BadParameter("expected values or --csv, not both")
    if table is None and (keep or answers):
        raise typer.BadParameter("--keep and --out go with --csv")
    if table is not None:
        with target.open() as caller:
            _answer_table(caller, name, which, table, keep or (), answers)
    elif values:
        _answer_row(target, name, which, values)
    else:
        raise typer.BadParameter("expected values, or --csv FILE")


def _answer_row(target: Target, name: str, which: Which, values: Sequence[str]) -> None:
    try:
        row = None if any("=" in value for value in values) else by_position(values)
        with target.open() as caller:
            if row is not None:
                result = caller.predict(name, which, row)
                contract = _contract(caller, name, result.version)
            else:
                contract = _named_contract(caller, name, which)
                result = caller.predict(name, which, by_name(values, contract), contract.hash)
            out.print(prediction_view(result, contract))
    except FeatureError as error:
        raise ending(error, code=2) from None


def _answer_table(
    caller: Caller, name: str, which: Which, table: str, keep: Sequence[str], answers: Path | None
) -> None:
    contract = _named_contract(caller, name, which)
    answered = 0
    try:
        with _opened(table) as source, _written(answers) as sink, _progress(source, answers) as advance:
            rows = FeatureTable("stdin" if table == STDIN else table, source, contract, keep)
            writer = csv.writer(sink, lineterminator="\n")
            row_bytes = 4 * len(contract.feature_names)
            for batch in rows.batches(max(1, min(MAX_ROWS, MAX_REQUEST_BYTES // row_bytes))):
                result = caller.predict(name, which, batch.rows, contract.hash)
                if not answered:
                    writer.writerow([*keep, *columns(result, contract)])
                writer.writerows([*kept, *line] for kept, line in zip(batch.kept, lines(result), strict=True))
                answered += len(batch.rows)
                advance(answered)
    except (FeatureError, CallError) as error:
        told = f"nothing is written to {answers}" if answers else f"{answered} rows before it are answered"
        raise ending(f"{error} ({told})" if answered else error, code=1) from None
    if answers:
        out.print(f"{answers}: {answered} rows answered by {name}")


def _contract(caller: Caller, name: str, version: int) -> wire.Contract:
    """Return what the version's numbers mean; an empty contract where it has none, or is gone by now."""
    for model in caller.describe_models().models:
        for described in model.versions:
            if (model.name, described.version) == (name, version):
                return described.contract
    return wire.Contract()


def _named_contract(caller: Caller, name: str, which: Which) -> wire.Contract:
    model, version = served(caller, name, which)
    if not version.HasField("contract"):
        raise CallError(
            f"{model.name}:{version.version} has no contract, so that its features have no names; "
            "expected one row of values in the file's order"
        )
    return version.contract


@contextlib.contextmanager
def _opened(table: str) -> Iterator[TextIO]:
    """Yield the CSV's lines as csv wants them, or end the command where there is no such file."""
    if table == STDIN:
        text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
        try:
            yield text
        finally:
            text.detach()  # stdin is not ours to close
        return
    try:
        stream = Path(table).open(encoding="utf-8-sig", newline="")  # noqa: SIM115 - closed by the block below
    except OSError as error:
        raise ending(f"{table}: {error.strerror}", code=1) from None
    with stream:
        yield stream


@contextlib.contextmanager
def _written(answers: Path | None) -> Iterator[TextIO]:
    """Yield where the answers go: stdout, or a file that stands there only once it is whole."""
    if answers is None:
        yield sys.stdout
        return
    part = answers.with_name(f".{answers.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(answers)
    except OSError as error:
        raise ending(f"{answers}: {error.strerror}", code=1) from None
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(source: TextIO, answers: Path | None) -> Iterator[Callable[[int], None]]:
    """Yield what is told how many rows are answered: a bar on a terminal that the answers do not go to."""
    if not err.is_terminal or (out.is_terminal and answers is None):
        yield lambda _: None
        return
    size_bytes = os.fstat(source.fileno()).st_size or None  # of a pipe it is 0, and the bar only moves
    parts = (BarColumn(), TextColumn("{task.fields[rows]} rows"), TimeElapsedColumn())
    with Progress(*parts, console=err) as progress:
        task = progress.add_task("", total=size_bytes, rows=0)
        yield lambda rows: progress.update(task, completed=_read_bytes(source), rows=rows)


def _read_bytes(source: TextIO) -> int:
    return source.buffer.tell() if source.seekable() else 0
