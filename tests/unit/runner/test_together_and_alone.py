"""Strategies of one line-up share histories, features, rows and answers: each is as it is by itself."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fixtures_ticks import tick

from strategy_client.bindings import Bindings
from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, Outcome
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.runner import StrategyRunner
from strategy_client.testing import FakeModel, FakePredictor

FEATURES = (("return_3", "price"), ("zscore_4", "return_2"))
TICKS = 120
CHANGE = 50
ENABLED = 70
RULES = ("momentum", "mean_reversion")
LEARNED = ("ml_momentum", "ml_momentum")
OF_REQUESTS = ("latency_us", "request_id")


def served(model: int) -> FakeModel:
    """Return a model that gives each row its own probabilities, whatever rows stand beside it."""

    def answer(rows: np.ndarray) -> np.ndarray:
        up = 0.5 + 0.4 * np.tanh((-1) ** model * 300 * rows[:, model % 2].astype(np.float64))
        return np.stack([1 - up, up], axis=1)

    return FakeModel(FEATURES[model % 2], answer)


def config(chance: random.Random, name: str, kinds: Sequence[str]) -> StrategyConfig:
    """Return a strategy of one of these kinds, on some of three instruments."""
    kind = chance.choice(kinds)
    parameters: dict[str, Any] = {"lookback_periods": chance.choice([2, 3, 5])}
    if kind == "momentum":
        parameters["momentum_threshold"] = chance.choice([0.0001, 0.002])
    elif kind == "mean_reversion":
        parameters["std_deviation_threshold"] = chance.choice([0.3, 1.0])
    else:
        model = chance.randrange(4)
        parameters = {
            "model": f"m{model}",
            "features": FEATURES[model % 2],
            "confidence_threshold": chance.choice([0.52, 0.6]),
        }
        if chance.random() < 0.3:
            parameters["shadow"] = {"model": f"m{(model + 2) % 4}"}
    rules = chance.choice([EmissionConfig(), EmissionConfig(edge_trigger=True), EmissionConfig(cooldown_s=5)])
    tokens = tuple(chance.sample([1, 2, 3], chance.randint(1, 3)))
    return StrategyConfig(
        name, kind, parameters, ("paper",), tokens, enabled=chance.random() < 0.8, emission=rules
    )


def market(chance: random.Random) -> list[MarketTick]:
    """Return ticks of three instruments; some prices stand still, some are none, some come too late."""
    prices = {1: 100.0, 2: 60_000.0, 3: 0.5}
    made = []
    for second in range(TICKS):
        token = chance.choice(list(prices))
        prices[token] *= 1 + chance.choice([0, 1, 1]) * chance.gauss(0, 0.003)
        price = 0 if chance.random() < 0.03 else round(prices[token], 4)
        # What is late for who was there is the first tick of who was not: only before any begins later.
        late = 30 if second < CHANGE and chance.random() < 0.06 else 0
        made.append(tick(price, token, second - late))
    return made


class Rig:
    """A runner over a fake sidecar, and what each strategy has said."""

    def __init__(self, configs: Sequence[StrategyConfig]) -> None:
        models = {f"m{model}": served(model) for model in range(4)}
        self.predictor = FakePredictor(models)
        self.executors = create_executors(configs, StrategyFactory())
        self.bindings = Bindings(wanted_models(self.executors), self.predictor.describe)
        self.bindings.refresh()
        self.runner = StrategyRunner(
            self.executors, self.predictor, self.bindings, shadow_predictor=FakePredictor(models)
        )
        self.said: dict[str, list[Outcome]] = {each.strategy_id: [] for each in self.executors}

    def change(self, executors: Sequence[StrategyExecutor]) -> None:
        self.bindings.change(wanted_models(executors))
        self.bindings.refresh()
        self.runner.change(executors)
        self.executors = list(executors)
        for each in executors:
            self.said.setdefault(each.strategy_id, [])

    def process(self, index: int, one: MarketTick) -> None:
        if index == ENABLED:
            for executor in self.executors:
                executor.enabled = True
        for outcome in self.runner.process(one):
            self.said[outcome.strategy_id].append(plain(outcome))
        for each in self.runner.take_comparisons():
            self.said[each.live.strategy_id] += [plain(each.live), plain(each.shadow)]


def plain(outcome: Outcome) -> Outcome:
    """Return an outcome without what differs from request to request."""
    told = {name: outcome.metadata[name] for name in outcome.metadata if name not in OF_REQUESTS}
    return outcome._replace(metadata=told)


@pytest.mark.parametrize("seed", range(12))
def test_a_strategy_is_the_same_among_others_and_by_itself(seed: int) -> None:
    """All that it says, to the last bit, and what is counted: others come and go and are enabled later.

    Learned ones that begin later look at features that are warm already, which alone they are not.
    """
    chance = random.Random(seed)  # noqa: S311 - nobody's secret
    first = [config(chance, f"first {number}", RULES + LEARNED) for number in range(chance.randint(2, 6))]
    later = [config(chance, f"later {number}", RULES) for number in range(chance.randint(1, 3))]
    ticks = market(chance)
    together = Rig(first)
    stay = [each for each in together.executors if chance.random() < 0.7]
    gone = {each.strategy_id for each in together.executors} - {each.strategy_id for each in stay}
    line_up = [*create_executors(later, StrategyFactory()), *stay]
    chance.shuffle(line_up)
    executors = {each.strategy_id: each for each in (*together.executors, *line_up)}
    for index, one in enumerate(ticks):
        if index == CHANGE:
            together.change(line_up)
        together.process(index, one)
    for each in (*first, *later):
        alone = Rig([each])
        since = CHANGE if each in later else 0
        until = CHANGE if each.strategy_id in gone else TICKS
        for index, one in enumerate(ticks[since:until], since):
            alone.process(index, one)
        assert alone.said[each.strategy_id] == together.said[each.strategy_id]
        assert alone.executors[0].counts == executors[each.strategy_id].counts
