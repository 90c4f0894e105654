"""From a strategy type and its parameters to a processor."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from strategy_client.configuration import (
    ConfigurationError,
    Problem,
    describe_error,
    did_you_mean,
    import_named,
)
from strategy_client.processors.mean_reversion import RULE_OF_ALPHA_PANDA, is_rule_of_alpha_panda
from strategy_client.processors.processor import StrategyProcessor

METHODS: Final = ("process_tick", "get_required_history_length", "supports_instrument", "get_strategy_name")
CreateProcessor = Callable[[dict[str, Any]], StrategyProcessor]

_PROCESSORS: Final = "strategy_client.processors"
BUILT_IN: Final[Mapping[str, str]] = {
    "momentum": f"{_PROCESSORS}.momentum.create_momentum_processor",
    "mean_reversion": f"{_PROCESSORS}.mean_reversion.create_mean_reversion_processor",
    "ml_momentum": f"{_PROCESSORS}.ml_momentum.create_ml_momentum_processor",
    "ml_mean_reversion": f"{_PROCESSORS}.ml_mean_reversion.create_ml_mean_reversion_processor",
    "ml_breakout": f"{_PROCESSORS}.ml_breakout.create_ml_breakout_processor",
}
ALIASES: Final[Mapping[str, str]] = {
    "MomentumProcessor": "momentum",
    "MeanReversionProcessor": "mean_reversion",
    "MLMomentumProcessor": "ml_momentum",
    "MLMeanReversionProcessor": "ml_mean_reversion",
    "MLBreakoutProcessor": "ml_breakout",
}
# Types that only Alpha Panda has: they run where it can be imported, by its own functions of these names.
ALPHA_PANDA: Final[Mapping[str, str]] = {
    name: f"strategies.implementations.{name}.create_{name}_processor"
    for name in ("rsi", "hybrid_momentum", "hybrid_mean_reversion", "low_frequency_demo")
}


class StrategyFactory:
    """Makes processors; knows the built-in types and those registered with it.

    A type of Alpha Panda's that is not built in is made by Alpha Panda itself, where that is installed.
    """

    def __init__(self) -> None:
        self._paths = {**BUILT_IN, **{alias: BUILT_IN[name] for alias, name in ALIASES.items()}}

    def register_processor(self, strategy_type: str, path: str) -> None:
        """Let `strategy_type` stand for the function at `path`, "module.path.create_x_processor".

        The function takes the parameters as a dict and returns a processor. It is imported when it is first
        needed. A name that is registered again stands for the newer path.
        """
        self._paths[strategy_type] = path

    def create_processor(self, strategy_type: str, parameters: Mapping[str, Any]) -> StrategyProcessor:
        """Make a processor of a registered type, or of the function at a dotted path given as the type.

        Raises ConfigurationError: its problem's place is `strategy_type` where the type is not known, cannot
        be imported or makes no processor, and under `parameters` where a parameter is wrong.
        """
        create = self._resolve(strategy_type, parameters)
        try:
            # A copy all through: what the function does to it is no change of the configuration.
            processor = create({key: _copied(value) for key, value in parameters.items()})
        except ConfigurationError as error:
            placed = (
                Problem(_under("parameters", problem.place), problem.text) for problem in error.problems
            )
            raise ConfigurationError(*placed) from error
        except (Exception, SystemExit) as error:  # a user's own function that could not use its parameters
            raise ConfigurationError(Problem("parameters", describe_error(error))) from error
        problem = _find_problem(processor)
        if problem:
            made = f"{strategy_type!r} made {_shown(processor)}: {problem}"
            raise ConfigurationError(Problem("strategy_type", made))
        return processor

    def _resolve(self, strategy_type: str, parameters: Mapping[str, Any]) -> CreateProcessor:
        path = self._paths.get(strategy_type) or ALPHA_PANDA.get(strategy_type, strategy_type)
        if path == BUILT_IN["mean_reversion"] and is_rule_of_alpha_panda(parameters):
            # Where it cannot be imported, our own rule says of each of these parameters what to do.
            with contextlib.suppress(ImportError):
                module, _, function = RULE_OF_ALPHA_PANDA.rpartition(".")
                return cast("CreateProcessor", import_named(module, function))
        module, _, function = path.rpartition(".")
        if not module:
            known = ", ".join(sorted(self._paths))
            raise ConfigurationError(
                Problem(
                    "strategy_type",
                    f"unknown strategy type {strategy_type!r}{did_you_mean(strategy_type, self._paths)}; "
                    f"known: {known}, or the path of a function, module.create_x_processor",
                )
            )
        try:
            create = import_named(module, function)
        except ImportError as error:
            text = f"{path!r} cannot be imported: {error}"
            if path == ALPHA_PANDA.get(strategy_type):
                near = did_you_mean(strategy_type, self._paths)
                text = (
                    f"{strategy_type!r} is a type of Alpha Panda's own{near}, and {text}; begin this where "
                    f"Alpha Panda lies, with PYTHONPATH=., or name one of {', '.join(sorted(self._paths))}, "
                    f"or the path of a function, module.create_x_processor"
                )
            raise ConfigurationError(Problem("strategy_type", text)) from error
        if not callable(create):
            raise ConfigurationError(Problem("strategy_type", f"{path!r} is no function"))
        return cast("CreateProcessor", create)


def _find_problem(processor: StrategyProcessor) -> str:
    try:
        missing = [name for name in METHODS if not callable(getattr(processor, name, None))]
        if missing:
            return f"it has no {', '.join(missing)}"
        length: object = processor.get_required_history_length()
    except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a user's processor raises is wrong with it
        return describe_error(error)
    if not isinstance(length, int) or length < 0:
        return f"get_required_history_length: expected an integer from 0, came {length!r}"
    return ""


def _shown(processor: object) -> str:
    try:
        return " ".join(repr(processor).split())
    except (Exception, SystemExit):  # noqa: BLE001 it is being told that something is wrong with it
        return f"a {type(processor).__name__}"


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _under(parent: str, place: str) -> str:
    return f"{parent}.{place}" if place else parent
