"""The command `model-export`: a .joblib file becomes a vetted ONNX file.

Loading a .joblib runs whatever its maker put into it: export only files that you trust. It is loaded here
and nowhere else; the sidecar reads ONNX only.
"""

import enum
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import joblib
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sklearn.exceptions import InconsistentVersionWarning

from model_export.errors import ExportError
from model_export.export import ExportReport, export_model
from model_export.samples import read_samples

BAD_INPUT = 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class LayoutChoice(enum.StrEnum):
    """Where the file goes below the model repository."""

    FLAT = "flat"
    VERSIONS = "versions"


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(help="A fitted estimator, saved by joblib. Loading it runs its code: trust it.")
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    models: Annotated[Path, typer.Option(help="The model repository's folder.")],
    samples: Annotated[
        Path, typer.Option(help="Sample rows, best the training data: .npy, or .csv with a header.")
    ],
    features: Annotated[
        str | None,
        typer.Option(help="Feature names a,b,c. Default: the estimator's own, or the CSV's header."),
    ] = None,
    model_version: Annotated[int, typer.Option(help="An integer above 0.")] = 1,
    window: Annotated[int, typer.Option(help="Ticks of history that the features look back on.")] = 1,
    includes_current_tick: Annotated[
        bool, typer.Option(help="Whether that history includes the tick that is scored.")
    ] = True,
    meaning: Annotated[
        list[str] | None, typer.Option(help="CLASS=BUY, CLASS=SELL or CLASS=HOLD; once a class.")
    ] = None,
    trained_at: Annotated[
        str | None, typer.Option(help="ISO time with a zone. Default: when FILE was last changed.")
    ] = None,
    layout: Annotated[
        LayoutChoice, typer.Option(help="flat: NAME.onnx. versions: NAME/VERSION/model.onnx.")
    ] = LayoutChoice.FLAT,
    seed: Annotated[int, typer.Option(help="Of the rows built to hurt.")] = 0,
) -> None:
    """Write FILE's estimator as one ONNX file that answers as it does, or say why not and exit with 2."""
    try:
        estimator = _load(file)
        names = [part.strip() for part in features.split(",")] if features is not None else None
        if names is None and hasattr(estimator, "feature_names_in_"):
            names = [str(known) for known in estimator.feature_names_in_]
        rows, names_read = read_samples(samples, names)
        report = export_model(
            estimator,
            name=name,
            models=models,
            samples=rows,
            feature_names=names_read,
            version=model_version,
            window=window,
            includes_current_tick=includes_current_tick,
            meanings=_meanings(meaning),
            trained_at=_time(trained_at, file),
            layout=layout.value,
            seed=seed,
        )
    except ExportError as error:
        _refuse(str(error))
    _show(report)


def main() -> None:
    """Run the command; the exit code is 0, or 2 with one line on what is wrong."""
    app()


def _load(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # An estimator of another scikit-learn may answer otherwise than it did when it was fitted.
            warnings.simplefilter("error", InconsistentVersionWarning)
            return joblib.load(file)
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror or error}") from error
    except InconsistentVersionWarning as error:
        raise ExportError(
            f"{file}: {error.estimator_name} was saved by scikit-learn {error.original_sklearn_version}, "
            f"this is {error.current_sklearn_version}: fit it again, or export it with its own version"
        ) from None
    except Exception as error:
        # A pickle is a program: a damaged one raises whatever it comes to.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"{file}: expected a file written by joblib.dump: {reason}") from error


def _meanings(texts: list[str] | None) -> dict[str, str] | None:
    if not texts:
        return None
    meanings = {}
    for text in texts:
        label, equals, meaning = text.rpartition("=")
        if not equals:
            raise ExportError(f"--meaning {text!r}: expected CLASS=BUY, CLASS=SELL or CLASS=HOLD")
        if label in meanings:
            raise ExportError(f"--meaning {text!r}: the class {label!r} has a meaning already")
        meanings[label] = meaning
    return meanings


def _time(text: str | None, file: Path) -> datetime:
    if text is None:
        return datetime.fromtimestamp(int(file.stat().st_mtime), tz=UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ExportError(f"--trained-at {text!r}: expected an ISO time with a zone") from None


def _refuse(text: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(Text("model-export: ", style="bold red") + Text(text))
    raise typer.Exit(BAD_INPUT)


def _show(report: ExportReport) -> None:
    contract, parity = report.contract, report.parity
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("file", Text(str(report.path)))
    table.add_row("model", Text(f"{contract.model} version {contract.version}: {contract.estimator}"))
    table.add_row("features", Text(", ".join(contract.feature_names)))
    for output in contract.outputs:
        classes = ", ".join(
            f"{label} = {meaning}" if meaning else label
            for label, meaning in zip(output.classes, output.meanings, strict=True)
        )
        table.add_row("output", Text(f"{output.name} ({classes})" if classes else output.name))
    table.add_row("NaN", "accepted" if parity.nan else "refused")
    table.add_row(
        "compared",
        f"{parity.rows:,} rows: {parity.samples:,} samples, {parity.thresholds:,} at thresholds, "
        f"{parity.extremes:,} extreme, {parity.nan:,} with NaN; {parity.undecided:,} too close for a label",
    )
    for result in parity.outputs:
        table.add_row(
            "worst", f"{result.name} off by {result.worst:.2g}, allowed {result.tolerance.atol:.2g}"
        )
    table.add_row("golden", f"{len(contract.golden.inputs)} rows travel in the file")
    table.add_row("digest", report.digest)
    table.add_row("contract", contract.hash)
    Console(soft_wrap=True).print(table)
