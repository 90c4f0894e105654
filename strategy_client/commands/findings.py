"""What a check found of each strategy: for a person a table, for a script JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table

from strategy_client.binding import Binding, Bound, Wanted
from strategy_client.configuration import Problem, StrategyConfig
from strategy_client.events import Reason
from strategy_client.processors.limits import ModelLimits
from strategy_client.processors.processor import LearnedProcessor

DIGEST_DIGITS: Final = 12
DAY: Final = timedelta(days=1)
NOT_LOOKED_AT: Final = "the model was not looked at; name a sidecar with --target"


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """A model that a strategy or its shadow asks, as one target serves it; `problem` empty when it fits."""

    asked_by: str
    model: str
    features: int
    target: str = ""
    version: int = 0
    digest: str = ""
    training_range_known: bool = False
    trained_at: datetime | None = None
    age_days: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One strategy and what it asks of which sidecar; `looked` False for a learned one without a target."""

    config: StrategyConfig
    models: Sequence[ModelFinding] = ()
    looked: bool = True

    @property
    def problem(self) -> str:
        """Why it cannot run as it should; empty when it can."""
        problems = dict.fromkeys(each.problem for each in self.models if each.problem)
        return "; ".join(problems)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        config = self.config
        return {
            "strategy_id": config.strategy_id,
            "strategy_type": config.strategy_type,
            "enabled": config.enabled,
            "brokers": list(config.active_brokers),
            "instruments": list(config.instrument_tokens),
            "max_position_size": config.max_position_size,
            "risk_multiplier": str(config.risk_multiplier),
            "emission": {
                "edge_trigger": config.emission.edge_trigger,
                "cooldown_s": config.emission.cooldown_s,
            },
            "looked_at_models": self.looked,
            "problem": self.problem,
            "models": [
                {
                    "asked_by": each.asked_by,
                    "model": each.model,
                    "target": each.target,
                    "version": each.version or None,
                    "digest": each.digest,
                    "features": each.features,
                    "training_range_known": each.training_range_known,
                    "trained_at": each.trained_at.isoformat() if each.trained_at else None,
                    "age_days": each.age_days,
                    "problem": each.problem,
                }
                for each in self.models
            ],
        }


def find_model(
    wanted: Wanted,
    binding: Binding,
    processor: LearnedProcessor,
    limits: ModelLimits,
    target: str,
    now: datetime,
) -> ModelFinding:
    """Say of a model as one target serves it whether the strategy could ask it now."""
    known: dict[str, Any] = {
        "asked_by": wanted.strategy_id,
        "model": wanted.model.name,
        "features": len(wanted.features.names),
        "target": target,
    }
    if not isinstance(binding, Bound):
        return ModelFinding(**known, problem=f"{binding.reason.value}: {binding.detail}")
    age_days = None if binding.trained_at is None else (now - binding.trained_at) / DAY
    return ModelFinding(
        **known,
        version=binding.version,
        digest=binding.digest,
        training_range_known=bool(binding.training_ranges),
        trained_at=binding.trained_at,
        age_days=age_days,
        problem=_unusable(binding, processor) or _too_old(age_days, limits),
    )


def _unusable(binding: Bound, processor: LearnedProcessor) -> str:
    if binding.meanings is None:
        return ""
    try:
        processor.bind(binding.meanings)
    except Exception as error:  # noqa: BLE001 whatever a user's processor raises is what is wrong with it
        return f"{Reason.CONTRACT_MISMATCH.value}: {error}"
    return ""


def _too_old(age_days: float | None, limits: ModelLimits) -> str:
    if limits.max_model_age is None:
        return ""
    most = limits.max_model_age / DAY
    if age_days is None:
        return (
            f"{Reason.MODEL_STALE.value}: it does not say when it was trained, and max_model_age_days is set"
        )
    if age_days > most:
        return f"{Reason.MODEL_STALE.value}: it was trained {age_days:.1f} days ago, more than {most:g}"
    return ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings; `left_out` is disabled and wrong, `notes` are what was taken and means nothing to us.

    `warnings` are what a run would do, and hardly anybody means.
    """

    findings: Sequence[Finding]
    left_out: Sequence[Problem] = ()
    notes: Sequence[Problem] = field(default_factory=tuple)
    warnings: Sequence[Problem] = ()

    @property
    def is_ready(self) -> bool:
        """Whether every strategy that is enabled can run as it should."""
        return not any(each.problem for each in self.findings if each.config.enabled)

    def to_json(self) -> Mapping[str, Any]:
        """Return it as plain values."""
        return {
            "ready": self.is_ready,
            "strategies": [each.to_json() for each in self.findings],
            "left_out": [{"place": each.place, "text": each.text} for each in self.left_out],
            "notes": [{"place": each.place, "text": each.text} for each in self.notes],
            "warnings": [{"place": each.place, "text": each.text} for each in self.warnings],
        }

    def to_table(self) -> RenderableType:
        """Return one row a strategy, one row a model that one asks, and a line for each note.

        On 80 columns nothing is cut off; what is long goes on in the next line.
        """
        parts: list[RenderableType] = [self._strategies()]
        if any(each.models for each in self.findings):
            parts += ["", self._models()]
        lines = [
            *(f"left out, as it is disabled: {problem}" for problem in self.left_out),
            *(f"note: {note}" for note in self.notes),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return Group(*parts, *([""] if lines else []), *lines)

    def _strategies(self) -> Table:
        table = _table("strategy", "type", "brokers", "finding")
        for each in self.findings:
            config = each.config
            table.add_row(
                config.strategy_id,
                config.strategy_type,
                "\n".join(config.active_brokers),
                "\n".join(_said(each)),
            )
        return table

    def _models(self) -> Table:
        models = [model for each in self.findings for model in each.models]
        several = len({each.target for each in models}) > 1
        at = ("at",) if several else ()
        table = _table("asked by", *at, "model", "version", "digest", "features", "range", "trained")
        for each in models:
            table.add_row(
                each.asked_by,
                *((each.target,) if several else ()),
                each.model,
                str(each.version or "-"),
                each.digest[:DIGEST_DIGITS] or "-",
                str(each.features),
                ("known" if each.training_range_known else "none") if each.version else "-",
                "-" if each.age_days is None else f"{each.age_days:.1f} days ago",
            )
        return table


def _said(finding: Finding) -> Iterable[str]:
    if not finding.config.enabled:
        yield "disabled"
    if finding.problem:
        yield finding.problem
    elif not finding.looked:
        yield NOT_LOOKED_AT
    elif finding.config.enabled:
        yield "OK"
    emission = finding.config.emission
    if emission.edge_trigger:
        yield "edge trigger"
    if emission.cooldown_s:
        yield f"cooldown {emission.cooldown_s:g} s"


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title in {"version", "digest", "features", "range"})
    return table
