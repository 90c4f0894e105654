"""The contract: what a model promises, kept in the ONNX file's own metadata.

One JSON document under the metadata key `tickserve.contract`. It is written by `model_export`, read and
enforced by the sidecar, and handed to clients when they bind. `Contract.hash` covers exactly what must
match between client and server: the features (names in order, dtype, window, whether the current tick is
part of the history, the NaN policy) and the outputs (names, kinds, classes and their meaning). Training
range, golden vectors and provenance may differ between two versions of one contract.
"""

import enum
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from inference_server.core.errors import ContractError
from inference_server.core.golden import GoldenVectors

METADATA_KEY: Final = "tickserve.contract"
FORMAT: Final = 1
FEATURES_DTYPE: Final = "FP32"
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MEANINGS: Final = ("BUY", "SELL", "HOLD", "")
# What the wire's integers hold.
MAX_INT64: Final = 2**63 - 1
MAX_WINDOW: Final = 2**32 - 1


class NanPolicy(enum.Enum):
    """What happens to a row that holds NaN."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class OutputKind(enum.Enum):
    """What the numbers of an output are."""

    LABEL = "label"
    PROBABILITIES = "probabilities"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class OutputMeaning:
    """One output: its kind and, for a classifier, what each class means.

    `classes` are the estimator's classes as text in column order; `meanings` has one entry a class: BUY,
    SELL, HOLD, or empty where the class means none of them. Both are empty for a value.
    """

    name: str
    kind: OutputKind
    classes: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureRange:
    """Smallest and largest finite value of one feature in the training data."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Contract:
    """What one version of a model promises. See the module's text for what the hash covers."""

    model: str
    version: int
    feature_names: tuple[str, ...]
    window: int
    includes_current_tick: bool
    nan_policy: NanPolicy
    outputs: tuple[OutputMeaning, ...]
    training_ranges: tuple[FeatureRange, ...]
    golden: GoldenVectors = field(repr=False, compare=False)
    estimator: str
    libraries: tuple[tuple[str, str], ...]
    trained_at_ns: int
    # SHA-256 of the canonical JSON of what must match, 64 lower-case hexadecimal digits.
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps(_must_match(self), sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "hash", hashlib.sha256(text.encode("ascii")).hexdigest())
        check_model_name(self.model)
        n_features = len(self.feature_names)
        rules: Sequence[tuple[bool, str]] = (
            (
                0 < self.version <= MAX_INT64,
                f"version: expected an integer above 0, of 64 bits, came {self.version}",
            ),
            (n_features > 0, "features.names: expected at least one"),
            (len(set(self.feature_names)) == n_features, "features.names: a name stands twice"),
            (
                0 < self.window <= MAX_WINDOW,
                f"features.window: expected 1 to {MAX_WINDOW} ticks, came {self.window}",
            ),
            (
                abs(self.trained_at_ns) <= MAX_INT64,
                f"trained_at_ns: expected an integer of 64 bits, came {self.trained_at_ns}",
            ),
            (
                len(self.training_ranges) == n_features,
                f"features.training_range: expected {n_features} entries, came {len(self.training_ranges)}",
            ),
            (
                all(-math.inf < span.low <= span.high < math.inf for span in self.training_ranges),
                "features.training_range: expected finite numbers, the smaller one first",
            ),
            (len(self.outputs) > 0, "outputs: expected at least one"),
            (
                len({output.name for output in self.outputs}) == len(self.outputs),
                "outputs: a name stands twice",
            ),
            (
                sorted(output.name for output in self.outputs)
                == sorted(golden.name for golden in self.golden.outputs),
                "golden.outputs: expected exactly the names of outputs",
            ),
        )
        for holds, text in rules:
            if not holds:
                raise ContractError(text)
        for output in self.outputs:
            _check_output(output)
        _check_texts(self)
        self.golden.check(n_features)

    def to_json(self) -> str:
        """Write the document that goes under `METADATA_KEY`; the same contract gives the same text."""
        document = {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            **_must_match(self),
            "training_range": [[span.low, span.high] for span in self.training_ranges],
            "golden": self.golden.to_document(),
            "estimator": self.estimator,
            "libraries": dict(self.libraries),
            "trained_at_ns": self.trained_at_ns,
            "hash": self.hash,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the document back; ContractError names the field that is missing or wrong."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ContractError(f"not a JSON document: {error}") from None
        except RecursionError:
            raise ContractError("not a JSON document of ours: nested too deep") from None
        if not isinstance(document, dict):
            raise ContractError(f"expected a JSON object, came {type(document).__name__}")
        if document.get("format") != FORMAT:
            raise ContractError(f"format: expected {FORMAT}, came {document.get('format')!r}")
        try:
            contract = cls(**_read_fields(document))
        except ContractError:
            raise
        except KeyError as error:
            raise ContractError(f"field {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ContractError(f"a field has the wrong form: {error}") from None
        if document.get("hash") != contract.hash:
            raise ContractError(
                f"hash: the document says {document.get('hash')!r}, its fields give {contract.hash}"
            )
        return contract


def check_model_name(name: str) -> None:
    """Refuse, with ContractError, a name that could not be a file's name on every system."""
    if not MODEL_NAME.fullmatch(name):
        raise ContractError(
            f"model name {name!r}: expected up to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"
        )


def _must_match(contract: Contract) -> dict[str, Any]:
    return {
        "features": {
            "names": list(contract.feature_names),
            "dtype": FEATURES_DTYPE,
            "window": contract.window,
            "includes_current_tick": contract.includes_current_tick,
            "nan_policy": contract.nan_policy.value,
        },
        "outputs": [
            {
                "name": output.name,
                "kind": output.kind.value,
                "classes": list(output.classes),
                "meanings": list(output.meanings),
            }
            for output in contract.outputs
        ],
    }


def _read_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    features = document["features"]
    if features["dtype"] != FEATURES_DTYPE:
        raise ContractError(f"features.dtype: expected {FEATURES_DTYPE}, came {features['dtype']!r}")
    return {
        "model": _typed(document, "model", str),
        "version": _typed(document, "version", int),
        "feature_names": _texts(features["names"], "features.names"),
        "window": _typed(features, "window", int),
        "includes_current_tick": _typed(features, "includes_current_tick", bool),
        "nan_policy": NanPolicy(features["nan_policy"]),
        "outputs": tuple(
            OutputMeaning(
                name=_typed(output, "name", str),
                kind=OutputKind(output["kind"]),
                classes=_texts(output["classes"], "outputs.classes"),
                meanings=_texts(output["meanings"], "outputs.meanings"),
            )
            for output in document["outputs"]
        ),
        "training_ranges": tuple(
            FeatureRange(float(low), float(high)) for low, high in document["training_range"]
        ),
        "golden": GoldenVectors.from_document(document["golden"]),
        "estimator": _typed(document, "estimator", str),
        "libraries": tuple(sorted((str(k), str(v)) for k, v in document["libraries"].items())),
        "trained_at_ns": _typed(document, "trained_at_ns", int),
    }


def _typed(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document[name]
    if type(value) is not kind:
        raise ContractError(f"{name}: expected {kind.__name__}, came {value!r}")
    return value


def _texts(values: object, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ContractError(f"{name}: expected a list of texts, came {values!r}")
    return tuple(values)


def _check_output(output: OutputMeaning) -> None:
    classes = output.kind is not OutputKind.VALUE
    if bool(output.classes) != classes or len(output.meanings) != len(output.classes):
        raise ContractError(
            f"outputs[{output.name!r}]: a {output.kind.value} has "
            f"{'classes and one meaning a class' if classes else 'no classes'}"
        )
    for meaning in output.meanings:
        if meaning not in MEANINGS:
            raise ContractError(
                f"outputs[{output.name!r}].meanings: {meaning!r} is not one of BUY, SELL, HOLD"
            )


def _check_texts(contract: Contract) -> None:
    texts = [_must_match(contract), contract.estimator, contract.libraries]
    try:
        json.dumps(texts, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ContractError(
            f"a text that is not Unicode: {error.object[error.start : error.end]!r}"
        ) from None
