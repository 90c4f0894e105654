"""The thin client: strategies in-process, learned ones answered by the sidecar.

The base install imports grpcio, protobuf and numpy, nothing else; the package by itself none of them. A name
brings all that it needs when it is first asked for, so that nothing is left to be imported on a tick.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strategy_client.configuration import ConfigurationError as ConfigurationError
    from strategy_client.configuration import StrategyConfig as StrategyConfig
    from strategy_client.events import MarketTick as MarketTick
    from strategy_client.events import NoSignal as NoSignal
    from strategy_client.events import Outcome as Outcome
    from strategy_client.events import Reason as Reason
    from strategy_client.events import Signal as Signal
    from strategy_client.events import SignalResult as SignalResult
    from strategy_client.factory import StrategyFactory as StrategyFactory
    from strategy_client.features import FeatureSet as FeatureSet
    from strategy_client.history import History as History
    from strategy_client.predictor.client import InferenceClient as InferenceClient
    from strategy_client.predictor.endpoints import Endpoints as Endpoints
    from strategy_client.predictor.security import Security as Security
    from strategy_client.replay.opened import OpenedReplay as OpenedReplay
    from strategy_client.replay.opened import open_replay as open_replay
    from strategy_client.replay.results import ReplayResult as ReplayResult
    from strategy_client.runner import StrategyRunner as StrategyRunner
else:  # where a type checker looked, it would take any name for one of ours
    import importlib

    _HOMES = {
        "ConfigurationError": "configuration",
        "Endpoints": "predictor.endpoints",
        "FeatureSet": "features",
        "History": "history",
        "InferenceClient": "predictor.client",
        "MarketTick": "events",
        "NoSignal": "events",
        "OpenedReplay": "replay.opened",
        "Outcome": "events",
        "Reason": "events",
        "ReplayResult": "replay.results",
        "Security": "predictor.security",
        "Signal": "events",
        "SignalResult": "events",
        "StrategyConfig": "configuration",
        "StrategyFactory": "factory",
        "StrategyRunner": "runner",
        "open_replay": "replay.opened",
    }
    __all__ = tuple(_HOMES)

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
