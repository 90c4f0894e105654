"""The functions that the other runner makes processors by."""

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from strategy_client.binding import Binding, Unbound, Wanted
from strategy_client.configuration import (
    ConfigurationError,
    EmissionConfig,
    Problem,
    StrategyConfig,
    did_you_mean,
)
from strategy_client.drop_in.options import OWN_NAMES, DropInOptions, read_parameters, split_parameters
from strategy_client.drop_in.processor import DropInProcessor, LearnedDropInProcessor
from strategy_client.drop_in.shared_bindings import OwnBinding
from strategy_client.drop_in.shared_client import SharedClient, acquire, release
from strategy_client.drop_in.signal_result import SignalClass, read_signal_class
from strategy_client.events import Reason, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.security import Security, SecurityError
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor, StrategyProcessor
from strategy_client.runner import RunnerOptions, StrategyRunner

Creator = Callable[[Mapping[str, Any]], DropInProcessor]

LOOK_AGAIN_S: Final = 0.05
# What the other runner looks for in a ValueError, to skip the strategy and go on with the others.
FAILED_TO_LOAD: Final = "Failed to load ML model from"

_numbers: Final = itertools.count(1)


class StrategyLoadError(Exception):
    """A strategy without a model whose parameters cannot be used.

    No ValueError: at one that does not speak of an ML model the other runner ends its whole start, and at
    anything else only this strategy.
    """


def creator(strategy_type: str, signal_result: str | SignalClass = SignalResult) -> Creator:
    """Return a factory function for the other runner.

    `strategy_type` is one of ours, as `ml_momentum`, or the dotted path of a function that makes a processor
    of one's own. Signals are made of the class `signal_result`, given itself or by its dotted path; the
    parameter of that name in a strategy's configuration goes before it. Nothing is imported or checked
    before the function is called.

    The function raises ValueError, beginning "Failed to load ML model from", for a learned strategy, and
    StrategyLoadError for another, where the configuration is wrong: a parameter, an address, a certificate,
    a model that a sidecar which is ready does not know, a contract of other features. A sidecar that is not
    there is no error, nor is a model that is not ready: there may be one any moment, and the strategy then
    answers by itself. Until then each tick has its reason.
    """

    def create(config: Mapping[str, Any]) -> DropInProcessor:
        return _create(strategy_type, config, signal_result)

    return create


def create_processor(config: Mapping[str, Any]) -> DropInProcessor:
    """Make a processor of the type that the parameter `strategy_type` names; see `creator`."""
    strategy_type = config.get("strategy_type")
    if not isinstance(strategy_type, str):
        text = f"strategy_type: expected a type or the path of a function, came {strategy_type!r}"
        raise StrategyLoadError(text)
    return _create(strategy_type, config, SignalResult)


create_momentum_processor: Final = creator("momentum")
create_mean_reversion_processor: Final = creator("mean_reversion")
create_ml_momentum_processor: Final = creator("ml_momentum")
create_ml_mean_reversion_processor: Final = creator("ml_mean_reversion")
create_ml_breakout_processor: Final = creator("ml_breakout")


def _create(
    strategy_type: str, config: Mapping[str, Any], signal_result: str | SignalClass
) -> DropInProcessor:
    learned = bool({"model", "model_path"} & set(config)) or "ml_" in strategy_type
    try:
        options, parameters = split_parameters(config)
        signal_class = read_signal_class(options.signal_result or signal_result)
        _ = options.zones
        read = read_parameters(parameters)
        processor = _processor(strategy_type, read.for_factory)
        strategy_id = options.strategy_id or f"{processor.get_strategy_name()}#{next(_numbers)}"
        # Brokers, instruments and `enabled` are the other runner's business.
        made = StrategyConfig(
            strategy_id=strategy_id,
            strategy_type=strategy_type,
            active_brokers=(),
            instrument_tokens=(),
            **read.fields(),
        )
        if isinstance(processor, LearnedProcessor):
            learned = True
            return _learned(made, processor, options, signal_class)
    except ConfigurationError as error:
        text = "; ".join(map(str, error.problems))
        if not learned:
            raise StrategyLoadError(f"{strategy_type}: {text}") from error
        model = config.get("model_path") or config.get("model")
        text = text if text.startswith(FAILED_TO_LOAD) else f"{FAILED_TO_LOAD} {model!r}: {text}"
        raise ValueError(text) from error
    make_runner = partial(_runner, made, processor, RunnerOptions(), None)
    return DropInProcessor(
        made.strategy_id, processor, make_runner, options, signal_class, emission=made.emission
    )


def _processor(strategy_type: str, parameters: Mapping[str, Any]) -> StrategyProcessor:
    try:
        return StrategyFactory().create_processor(strategy_type, parameters)
    except ConfigurationError as error:
        # The processor does not know the names of this package, so that it cannot say which one was meant.
        raise ConfigurationError(*map(_with_near_name, error.problems)) from error


def _with_near_name(problem: Problem) -> Problem:
    name = problem.place.rpartition(".")[2]
    near = did_you_mean(name, OWN_NAMES)
    if not near or not problem.text.startswith("unknown parameter") or "did you mean" in problem.text:
        return problem
    return Problem(problem.place, problem.text.replace("unknown parameter", f"unknown parameter{near}", 1))


def _learned(
    config: StrategyConfig,
    processor: LearnedProcessor,
    options: DropInOptions,
    signal_class: SignalClass,
) -> LearnedDropInProcessor:
    if shadow_of(processor) is not None:
        text = "a shadow is scored by a StrategyRunner only; expected none in this runner"
        raise ConfigurationError(Problem("shadow", text))
    target = processor.model.endpoint or os.environ.get("TICKSERVE_TARGET") or _default_target()
    try:
        security = _security()
        shared = acquire(target, security)
    except (TargetError, SecurityError) as error:
        raise ConfigurationError(Problem("endpoint", str(error))) from error
    own = shared.bindings.join(Wanted(config.strategy_id, processor.model, processor.features))

    def give_back() -> None:
        own.leave()
        release(target, security)

    try:
        _bind(processor, own, shared)
    except BaseException:
        give_back()
        raise
    budget = RunnerOptions(deadline_ms=options.deadline_ms)
    make_runner = partial(_runner, config, processor, budget, (shared, own))
    return LearnedDropInProcessor(
        config.strategy_id,
        processor,
        make_runner,
        options,
        signal_class,
        emission=config.emission,
        binding=own,
        release=give_back,
    )


def _bind(processor: LearnedProcessor, own: OwnBinding, shared: SharedClient) -> None:
    reached = shared.wait_reached()
    own.start()
    if not reached:
        return
    # A sidecar that has only just begun may not have looked at its models yet.
    pause = threading.Event()
    while _may_come(own.now) and not shared.ready and shared.wait_left_s() > 0:
        pause.wait(LOOK_AGAIN_S)
        own.refresh()
    binding = own.now
    if not isinstance(binding, Unbound):
        if binding.meanings is not None:
            processor.bind(binding.meanings)
        return
    wrong = binding.reason is Reason.CONTRACT_MISMATCH
    if wrong or (binding.reason is Reason.MODEL_NOT_FOUND and shared.ready):
        near = "" if wrong else did_you_mean(processor.model.name, shared.model_names())
        raise ConfigurationError(Problem("model", f"{binding.reason.value}: {binding.detail}{near}"))


def _may_come(binding: Binding) -> bool:
    return isinstance(binding, Unbound) and binding.reason is not Reason.CONTRACT_MISMATCH


def _runner(
    config: StrategyConfig,
    processor: StrategyProcessor,
    options: RunnerOptions,
    asks: tuple[SharedClient, OwnBinding] | None,
    token: int,
) -> StrategyRunner:
    # What goes out is known only where the other runner's class has taken it: DropInProcessor has the rules.
    inner = replace(config, instrument_tokens=(token,), emission=EmissionConfig())
    executor = StrategyExecutor(processor, inner)
    if asks is None:
        return StrategyRunner([executor], options=options)
    shared, own = asks
    return StrategyRunner([executor], shared, own, options)


def _default_target() -> str:
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 where the sidecar listens by default
    return f"unix:{folder}/tickserve.sock"


def _security() -> Security:
    def path(name: str) -> Path | None:
        value = os.environ.get(f"TICKSERVE_{name}")
        return Path(value) if value else None

    return Security(path("CA"), path("CERTIFICATE"), path("KEY"), path("TOKEN_FILE"))
