"""The strategies of a run, made from their configuration."""

from collections.abc import Sequence

from strategy_client.bindings import Wanted
from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, did_you_mean
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.processors.processor import LearnedProcessor


def create_executors(
    strategies: Sequence[StrategyConfig], factory: StrategyFactory
) -> list[StrategyExecutor]:
    """Make each strategy's executor. Raises ConfigurationError with the strategy's id before the place."""
    executors = []
    for config in strategies:
        try:
            processor = factory.create_processor(config.strategy_type, config.parameters)
        except ConfigurationError as error:
            raise ConfigurationError(
                *(Problem(f"{config.strategy_id}: {each.place}", each.text) for each in error.problems)
            ) from error
        executors.append(StrategyExecutor(processor, config))
    return executors


def wanted_models(executors: Sequence[StrategyExecutor], targets: Sequence[str] = ()) -> list[Wanted]:
    """Return what the learned ones among the strategies ask of their models.

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
    return [
        Wanted(executor.strategy_id, executor.processor.model, executor.processor.features)
        for executor in executors
        if isinstance(executor.processor, LearnedProcessor)
    ]


def _endpoint_text(endpoint: str | None, targets: Sequence[str]) -> str:
    known = ", ".join(targets) or "none, the run starts a sidecar of its own"
    near = did_you_mean(endpoint or "", targets)
    return (
        f"{endpoint!r} is none of this run's targets ({known}){near}; expected one of them, or no endpoint. "
        f"Give it with --target, or run the strategies of another sidecar apart"
    )
