"""The strategies of a run, made from their configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategy_client.binding import Wanted
from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, did_you_mean
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.shadow import shadow_id


def create_executors(
    strategies: Sequence[StrategyConfig], factory: StrategyFactory
) -> list[StrategyExecutor]:
    """Make each strategy's executor. Raises ConfigurationError with the strategy's id before the place."""
    return [_create(config, factory) for config in strategies]


def renew(
    executors: Sequence[StrategyExecutor], configs: Sequence[StrategyConfig], factory: StrategyFactory
) -> list[StrategyExecutor]:
    """Make the line-up of another configuration, for `StrategyRunner.change`.

    A strategy of the same type and parameters keeps its executor, which takes the other limits, brokers,
    instruments and rules of emission at once; any other one is made anew. Raises ConfigurationError as
    `create_executors`, and has changed nothing then.
    """
    before = {executor.strategy_id: executor for executor in executors}
    line_up: list[StrategyExecutor] = []
    for config in configs:
        executor = before.get(config.strategy_id)
        if executor is None or _logic(executor.config) != _logic(config):
            executor = _create(config, factory)
        line_up.append(executor)
    for executor, config in zip(line_up, configs, strict=True):
        if executor.config != config:
            executor.reconfigure(config)
    return line_up


def _logic(config: StrategyConfig) -> tuple[str, Mapping[str, Any]]:
    return config.strategy_type, config.parameters


def _create(config: StrategyConfig, factory: StrategyFactory) -> StrategyExecutor:
    try:
        processor = factory.create_processor(config.strategy_type, config.parameters)
    except ConfigurationError as error:
        raise ConfigurationError(
            *(Problem(f"{config.strategy_id}: {each.place}", each.text) for each in error.problems)
        ) from error
    return StrategyExecutor(processor, config)


def wanted_models(executors: Sequence[StrategyExecutor], targets: Sequence[str] = ()) -> list[Wanted]:
    """Return what the learned ones among the strategies, and their shadows, ask of their models.

    All of them are asked of the run's `targets`, in one request a tick. Raises ConfigurationError for a
    strategy that names an endpoint which is none of these: nothing would ask it.
    """
    problems = [
        Problem(f"{executor.strategy_id}: parameters.endpoint", _endpoint_text(model.endpoint, targets))
        for executor in executors
        if isinstance(executor.processor, LearnedProcessor)
        and (model := executor.processor.model).endpoint not in (None, *targets)
    ]
    if problems:
        raise ConfigurationError(*problems)
    wanted = []
    for executor in executors:
        processor = executor.processor
        if isinstance(processor, LearnedProcessor):
            wanted.append(Wanted(executor.strategy_id, processor.model, processor.features))
            shadow = shadow_of(processor)
            if shadow is not None:
                wanted.append(Wanted(shadow_id(executor.strategy_id), shadow.model, shadow.features))
    return wanted


def _endpoint_text(endpoint: str | None, targets: Sequence[str]) -> str:
    known = ", ".join(targets) or "none, the run starts a sidecar of its own"
    near = did_you_mean(endpoint or "", targets)
    return (
        f"{endpoint!r} is none of this run's targets ({known}){near}; expected one of them, or no endpoint. "
        f"Give it with --target, or run the strategies of another sidecar apart"
    )
