"""The strategies of a run, made from their configuration."""

from collections.abc import Sequence

from strategy_client.bindings import Wanted
from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig
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
        if isinstance(processor, LearnedProcessor) and processor.model.endpoint is not None:
            text = "a runner asks one sidecar, the one of --target; expected no endpoint of a strategy's own"
            raise ConfigurationError(Problem(f"{config.strategy_id}: parameters.endpoint", text))
        executors.append(StrategyExecutor(processor, config))
    return executors


def wanted_models(executors: Sequence[StrategyExecutor]) -> list[Wanted]:
    """Return what the learned ones among the strategies ask of their models."""
    return [
        Wanted(executor.strategy_id, executor.processor.model, executor.processor.features)
        for executor in executors
        if isinstance(executor.processor, LearnedProcessor)
    ]
