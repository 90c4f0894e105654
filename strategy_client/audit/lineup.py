"""The strategies of a log, as its header tells them: configuration, features, and the code that ran."""

import dataclasses
import hashlib
import inspect
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from strategy_client.audit.plain import from_plain, to_plain, to_text
from strategy_client.configuration import StrategyConfig
from strategy_client.executor import StrategyExecutor
from strategy_client.processors.processor import LearnedProcessor

DISTRIBUTION: Final = "tickserve"


def lineup_record(executors: Sequence[StrategyExecutor]) -> dict[str, Any]:
    """Return everything that a strategy's outcomes depend on, apart from ticks and models."""
    strategies = [strategy_record(executor) for executor in executors]
    return {"strategies": strategies, "configuration_sha256": digest_of(strategies)}


def digest_of(strategies: object) -> str:
    """Return the SHA-256 over the strategies as they stand in the log, keys sorted."""
    return hashlib.sha256(to_text(_sorted(strategies)).encode()).hexdigest()


def software() -> dict[str, str]:
    """Return the versions of what computes: two of them may differ in a number's last digit."""
    try:
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        version = "not installed"
    python = ".".join(map(str, sys.version_info[:3]))
    return {DISTRIBUTION: version, "python": python, "numpy": np.__version__}


def code_digest(processor: object) -> str:
    """Return the SHA-256 of the file that a processor's class stands in; empty where there is none."""
    try:
        source = inspect.getsourcefile(type(processor))
        return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    except (OSError, TypeError):
        return ""


def read_config(record: Mapping[str, Any]) -> StrategyConfig:
    """Return the configuration that a log tells; one of `decoder.UNREADABLE` where it tells none."""
    config = typing.cast("StrategyConfig", _read(StrategyConfig, from_plain(record["configuration"])))
    if config.strategy_id != record.get("id"):
        raise ValueError(f"strategy_id: expected {record.get('id')!r}, came {config.strategy_id!r}")
    return config


def strategy_record(executor: StrategyExecutor) -> dict[str, Any]:
    """Return a strategy as the header tells it."""
    config, processor = executor.config, executor.processor
    record: dict[str, Any] = {
        "id": config.strategy_id,
        "configuration": _fields(dataclasses.replace(config, enabled=executor.enabled)),
        "code": f"{type(processor).__module__}.{type(processor).__qualname__}",
        "code_sha256": code_digest(processor),
    }
    if isinstance(processor, LearnedProcessor):
        record["model"] = _fields(processor.model)
        record["features"] = list(processor.features.names)
        record["window"] = processor.features.window
    return record


def _fields(value: Any) -> dict[str, Any]:
    fields = {}
    for each in dataclasses.fields(value):
        inner = getattr(value, each.name)
        is_group = dataclasses.is_dataclass(inner) and not isinstance(inner, type)
        fields[each.name] = _fields(inner) if is_group else to_plain(inner)
    return fields


def _read(kind: Any, values: Mapping[str, Any]) -> object:
    hints = typing.get_type_hints(kind)
    known = {each.name for each in dataclasses.fields(kind)}
    return kind(**{name: _as(name, hints[name], value) for name, value in values.items() if name in known})


def _as(name: str, hint: Any, value: Any) -> Any:
    # What JSON has no kind of its own for: a tuple, a decimal, a group of options.
    if isinstance(hint, types.UnionType):
        kinds = [each for each in typing.get_args(hint) if each is not type(None)]
        return value if value is None else _as(name, kinds[0], value)
    kind = typing.get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(_as(name, inner, each) for each in value)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _read(kind, value)
    if kind is Decimal and isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, (int, float) if kind is float else kind):
        return value
    raise TypeError(f"{name}: expected {getattr(kind, '__name__', kind)}, came {type(value).__name__}")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value
