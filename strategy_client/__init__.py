"""The thin client: strategies in-process, learned ones answered by the sidecar.

The base install imports grpcio, protobuf and numpy, nothing else.
"""

from strategy_client.configuration import ConfigurationError, StrategyConfig
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason, Signal, SignalResult
from strategy_client.factory import StrategyFactory
from strategy_client.features import FeatureSet
from strategy_client.history import History
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.security import Security
from strategy_client.replay.opened import OpenedReplay, open_replay
from strategy_client.replay.results import ReplayResult
from strategy_client.runner import StrategyRunner

__all__ = [
    "ConfigurationError",
    "Endpoints",
    "FeatureSet",
    "History",
    "InferenceClient",
    "MarketTick",
    "NoSignal",
    "OpenedReplay",
    "Outcome",
    "Reason",
    "ReplayResult",
    "Security",
    "Signal",
    "SignalResult",
    "StrategyConfig",
    "StrategyFactory",
    "StrategyRunner",
    "open_replay",
]
