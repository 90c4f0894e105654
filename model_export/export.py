"""The way of an export: check, try to break, convert, compare, seal, vet as the sidecar does, write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference_server.adapters.vetting import vet
from inference_server.core.clock import SystemClock
from inference_server.core.contract import (
    MAX_INT64,
    MAX_WINDOW,
    Contract,
    FeatureRange,
    NanPolicy,
    check_model_name,
)
from inference_server.core.errors import ContractError
from inference_server.core.golden import GoldenOutput, GoldenVectors
from inference_server.core.tensor import Array
from model_export.adversary import Adversary, AdversaryOptions
from model_export.artefact import LAYOUTS, Layout, digest, place, seal, write
from model_export.conversion import convert
from model_export.errors import ExportError, ParityError
from model_export.golden import choose_rows
from model_export.parity import (
    WORST_ROWS,
    Comparison,
    ConvertedModel,
    ParityFigures,
    Tolerance,
    tolerances,
)
from model_export.reference import LABEL, Reference, describe
from model_export.samples import check_samples

LIBRARIES: Final = ("numpy", "onnx", "scikit-learn", "skl2onnx")
SINGLE_ROWS: Final = 32
NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """A file that was written: its place, SHA-256, contract, and what was compared before."""

    path: Path
    digest: str
    contract: Contract
    parity: ParityFigures


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """All rows that were asked, where they come from, and the estimator's answers to them."""

    rows: NDArray[np.float32]
    origins: NDArray[np.object_]
    expected: Mapping[str, Array]
    undecided: NDArray[np.bool_]


def export_model(
    estimator: Any,
    *,
    name: str,
    models: Path | str,
    samples: Any,
    feature_names: Sequence[str] | None = None,
    version: int = 1,
    window: int = 1,
    includes_current_tick: bool = True,
    meanings: Mapping[Any, str] | None = None,
    trained_at: datetime | None = None,
    layout: Layout = "flat",
    seed: int = 0,
) -> ExportReport:
    """Write a fitted scikit-learn classifier, regressor or pipeline as one ONNX file with its contract.

    The file is written only if it answers as the estimator does, on the samples and on rows built to hurt.
    The same estimator, samples, seed and `trained_at` give the same bytes.

    Args:
        estimator: the fitted estimator. Its features are float32 when served.
        name: the model's name, that of the file.
        models: the model repository's folder; made if missing.
        samples: numbers, shape (rows, n_features), best the training data: they give the training range.
        feature_names: in the order of the columns; by default the names that the estimator was fitted with.
        version: the model's version, an integer above 0.
        window: how many ticks of history the features look back on.
        includes_current_tick: whether that history includes the tick that is being scored.
        meanings: class -> BUY, SELL or HOLD. By default a class whose text is one of these means it, and
            other classes mean nothing: the side of a trade is never guessed from a number.
        trained_at: when the estimator was fitted, with a time zone; by default now.
        layout: "flat" writes MODELS/NAME.onnx, "versions" MODELS/NAME/VERSION/model.onnx.
        seed: of the rows built to hurt.

    Raises:
        ParityError: the converted model answers otherwise; it holds the worst rows.
        ExportError: anything else that is wrong, with what, where and what was expected.

    """
    reference = Reference(estimator)
    _check_integers(
        version=(version, 1, MAX_INT64), window=(window, 1, MAX_WINDOW), seed=(seed, 0, MAX_INT64)
    )
    trained_at_ns = _check_arguments(name, layout, trained_at)
    names = _feature_names(estimator, feature_names)
    rows = check_samples(samples, names)
    nan_policy = _nan_policy(reference, rows, names)
    meaning = reference.meaning(meanings)
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    hurting = Adversary(reference.estimator, AdversaryOptions(seed=seed)).rows(
        rows, low, high, nan=nan_policy is NanPolicy.ACCEPT
    )
    parts = {"sample": rows, "threshold": hurting.thresholds, "extreme": hurting.extremes, "NaN": hurting.nan}
    trial = _try(reference, parts)
    allowed = tolerances({name: answer[: len(rows)] for name, answer in trial.expected.items()})

    model = convert(reference, name, version, len(names))
    comparison = Comparison(allowed, names)
    converted = ConvertedModel(model.SerializeToString(), reference.outputs)
    came = converted.answer(trial.rows)
    _check_parity(comparison, trial, came)

    golden = choose_rows(reference.estimator, trial.rows, trial.origins, ~trial.undecided)
    if len(golden) == 0:
        raise ExportError("the estimator tells no class from another on any row: nothing to compare by")
    alone = _Trial(*_taken(trial, golden[:: max(1, len(golden) // SINGLE_ROWS)][:SINGLE_ROWS]))
    _check_parity(comparison, alone, converted.answer(alone.rows, batch_rows=1))

    try:
        contract = Contract(
            model=name,
            version=version,
            feature_names=names,
            window=window,
            includes_current_tick=includes_current_tick,
            nan_policy=nan_policy,
            outputs=meaning,
            training_ranges=tuple(
                FeatureRange(lowest, highest)
                for lowest, highest in zip(low.tolist(), high.tolist(), strict=True)
            ),
            golden=_golden_vectors(trial, golden, allowed),
            estimator=describe(reference.estimator),
            libraries=tuple((library, library_version(library)) for library in LIBRARIES),
            trained_at_ns=trained_at_ns,
        )
    except ContractError as error:
        raise ExportError(str(error)) from error
    content = seal(model, contract)
    refusal = vet(content, name).refusal
    if refusal:
        raise ExportError(f"the sidecar would refuse the file: {refusal}")
    path = place(Path(models), name, version, layout)
    write(content, path)
    return ExportReport(
        path=path,
        digest=digest(content),
        contract=contract,
        parity=ParityFigures(
            samples=len(rows),
            thresholds=len(hurting.thresholds),
            extremes=len(hurting.extremes),
            nan=len(hurting.nan),
            undecided=int(trial.undecided.sum()),
            outputs=comparison.worst(trial.expected, came),
        ),
    )


def _check_integers(**arguments: tuple[int, int, int]) -> None:
    for what, (value, least, most) in arguments.items():
        if type(value) is not int or not least <= value <= most:
            raise ExportError(f"{what}: expected an integer from {least} to {most}, came {value!r}")


def _check_arguments(name: str, layout: str, trained_at: datetime | None) -> int:
    try:
        check_model_name(name)
    except ContractError as error:
        raise ExportError(str(error)) from None
    if layout not in LAYOUTS:
        raise ExportError(f"layout: expected one of {', '.join(LAYOUTS)}, came {layout!r}")
    if trained_at is None:
        return SystemClock().wall_ns()
    if getattr(trained_at, "tzinfo", None) is None:
        raise ExportError(f"trained_at: expected a time with a time zone, came {trained_at!s}")
    return int(trained_at.timestamp()) * NS_PER_S + trained_at.microsecond * 1000


def _feature_names(estimator: Any, given: Sequence[str] | None) -> tuple[str, ...]:
    fitted = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    if given is None:
        if not fitted:
            raise ExportError("feature_names: the estimator was fitted without names, so they must be given")
        return fitted
    names = tuple(given)
    if isinstance(given, str) or not all(type(name) is str and name for name in names):
        raise ExportError(f"feature_names: expected a list of texts, came {given!r}")
    expected = getattr(estimator, "n_features_in_", len(names))
    if len(names) != expected:
        raise ExportError(f"feature_names: the estimator takes {expected} features, came {len(names)} names")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ExportError(f"feature_names: {twice!r} stands twice")
    if fitted and fitted != names:
        raise ExportError(
            f"feature_names: the estimator was fitted on {', '.join(fitted)}; came {', '.join(names)}"
        )
    return names


def _nan_policy(reference: Reference, rows: NDArray[np.float32], names: Sequence[str]) -> NanPolicy:
    whole = rows[~np.isnan(rows).any(axis=1)]
    if len(whole):
        # What is wrong with the estimator itself shows here, before anything is built around it.
        reference.answer(whole[:1])
    if reference.takes_nan((whole if len(whole) else rows)[0]):
        return NanPolicy.ACCEPT
    broken = np.argwhere(np.isnan(rows))
    if len(broken):
        row, feature = broken[0]
        raise ExportError(
            f"samples: row {row} has NaN in {names[feature]!r}, "
            f"and {describe(reference.estimator)} does not take NaN in every feature"
        )
    return NanPolicy.REFUSE


def _try(reference: Reference, parts: Mapping[str, NDArray[np.float32]]) -> _Trial:
    rows = np.concatenate(list(parts.values()))
    expected = reference.answer(rows)
    return _Trial(
        rows=rows,
        origins=np.repeat(np.array(list(parts), dtype=np.object_), [len(part) for part in parts.values()]),
        expected=expected,
        undecided=reference.undecided(rows, expected),
    )


def _check_parity(comparison: Comparison, trial: _Trial, came: Mapping[str, Array]) -> None:
    failures = comparison.failures(trial.expected, came, trial.undecided)
    failed = np.any([errors > 0 for errors in failures.values()], axis=0)
    if failed.any():
        worst = comparison.differences(trial.rows, trial.origins.tolist(), trial.expected, came, failures)
        raise ParityError(worst[:WORST_ROWS], int(failed.sum()), len(trial.rows))


def _taken(
    trial: _Trial, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.object_], dict[str, Array], NDArray[np.bool_]]:
    expected = {name: answer[rows] for name, answer in trial.expected.items()}
    return trial.rows[rows], trial.origins[rows], expected, trial.undecided[rows]


def _golden_vectors(
    trial: _Trial, rows: NDArray[np.int64], allowed: Mapping[str, Tolerance]
) -> GoldenVectors:
    outputs = []
    for name, answer in trial.expected.items():
        with np.errstate(over="ignore"):
            expected = answer[rows] if name == LABEL else answer[rows].astype(np.float32)
        outputs.append(GoldenOutput(name, expected, allowed[name].atol, allowed[name].rtol))
    return GoldenVectors(inputs=trial.rows[rows], outputs=tuple(outputs))
