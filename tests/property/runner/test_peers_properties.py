"""Learned strategies that ask and conclude as one another: each is what it is by itself, whatever comes."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fixtures_runner import FEATURES, Settled, config, contract, description
from fixtures_ticks import OPEN

from strategy_client.binding import NOT_BOUND_YET, Binding, Wanted, bind
from strategy_client.configuration import ConfigurationError, EmissionConfig
from strategy_client.events import MarketTick, Reason, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet
from strategy_client.predictor.description import Description, NanPolicy, OutputKind, OutputMeaning
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.processors.classifier import ClassifierOptions, ClassifierProcessor
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow
from strategy_client.questions import QuestionSheet
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import shadow_id

TOKENS = (1, 2)
MODELS = tuple(ModelReference(*each) for each in (("m",), ("m", 4), ("m", 0, "unix:/elsewhere"), ("n",)))
SETS = (FEATURES, FEATURES, ("return_3", "price"))


def outputs(classes: tuple[str, ...], meanings: tuple[str, ...]) -> tuple[OutputMeaning, ...]:
    """Return what a contract promises."""
    kinds = {"label": OutputKind.LABEL, "probabilities": OutputKind.PROBABILITIES}
    return tuple(OutputMeaning(name, kind, classes, meanings) for name, kind in kinds.items())


def described(**changes: Any) -> Description:
    """Describe both models alike; `version` and `digest` are those of the file."""
    file = {name: changes.pop(name) for name in ("version", "digest") if name in changes}
    model = description(contract(**changes)).models["m"]
    model = replace(model, versions=tuple(replace(each, **file) for each in model.versions))
    return Description({name: replace(model, name=name) for name in ("m", "n")}, ready=True)


RANGES = ((99.0, 102.0), (-1.0, 1.0))
AGE_NS = int((OPEN - timedelta(days=1)).timestamp()) * 10**9
SERVED = (
    described(),
    described(training_ranges=RANGES, trained_at_ns=AGE_NS),
    described(training_ranges=RANGES, trained_at_ns=AGE_NS, digest="d5", nan_policy=NanPolicy.ACCEPT),
    described(version=5, digest="d5"),
    described(hash="h2", outputs=outputs(("0", "1"), ("BUY", "SELL"))),
    described(hash="h3", outputs=outputs(("0", "1"), ("HOLD", "HOLD"))),
    described(hash="h4", outputs=outputs(("a", "b", "c"), ("SELL", "HOLD", "BUY"))),
    described(hash="h5", outputs=(OutputMeaning("value", OutputKind.VALUE, (), ()),)),
    described(feature_names=("return_3", "price")),
    Description({}, ready=True),
)


class Foreign(ClassifierProcessor):
    """Interprets as its base does, and is not known to."""


class Counting(ClassifierProcessor):
    """Wants more each time, and raises each fourth time."""

    asked = 0

    def interpret(self, tick: MarketTick, features: Any, prediction: PredictionRow) -> SignalResult | Reason:
        self.asked += 1
        if not self.asked % 4:
            raise ArithmeticError("the fourth")
        return SignalResult("SELL", 0.5, self.asked, tick.last_price)

    def bind(self, meanings: ClassMeanings) -> None:
        if meanings.meanings == ("BUY", "SELL"):
            raise ConfigurationError
        super().bind(meanings)


class OnlyFloat:
    """A price that can be asked for its number, and not compared."""

    def __float__(self) -> float:
        return 101.5

    def __str__(self) -> str:
        return "101.5"

    __repr__ = __str__


class Table:
    """Bindings that change when they are told to, for each strategy by itself."""

    def __init__(self, wanted: Sequence[Wanted], steps: Sequence[dict[str, int]]) -> None:
        self._wanted = {each.strategy_id: each for each in wanted}
        self._steps = [
            {name: bind(each, SERVED[step[name]]) for name, each in self._wanted.items() if name in step}
            for step in steps
        ]
        self.now: dict[str, Binding] = {}
        self.seen: set[tuple[str, int, str]] = set()
        self.doubted = False

    def go_to(self, index: int) -> None:
        self.now.update(self._steps[index])

    def of(self, strategy_id: str) -> Binding:
        return self.now.get(strategy_id, NOT_BOUND_YET)

    def saw(self, model: str, version: int, digest: str) -> None:
        self.seen.add((model, version, digest))

    def doubt(self) -> None:
        self.doubted = True


class ByContent:
    """Answers as the day has it, by what is asked, and not by what is asked beside it."""

    def __init__(self) -> None:
        self.day = 0

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> Settled:
        return Settled([self._answer(question) for question in questions])

    def close(self) -> None:
        """Do nothing."""

    def _answer(self, question: Question) -> Answer:
        told = f"{self.day} {question.model} {question.version} {question.contract_hash}"
        seed = zlib.crc32(told.encode())
        rows = [self._probabilities(seed, row.tobytes(), question) for row in question.features]
        kind = seed % 16
        if kind == 0:
            reasons = (Reason.UNAVAILABLE, Reason.CONTRACT_MISMATCH, Reason.MODEL_NOT_READY)
            return Refusal(reasons[self.day % 3], "no")
        given = {"label": np.ones(len(rows)), "probabilities": np.array(rows), "value": np.ones(len(rows))}
        if kind == 1:
            del given["probabilities"]
        version, digest = (5, "d5") if kind < 5 else (4, "d4")
        return Prediction(
            question.model, version, digest, "h9" if kind == 2 else question.contract_hash, given
        )

    @staticmethod
    def _probabilities(seed: int, row: bytes, question: Question) -> list[float]:
        chance = zlib.crc32(row, seed)
        first = (0.0, 0.5, 0.7, 0.3, 0.2, 1.000001, 1.5, float("nan"), 0.35, 0.9)[chance % 10]
        if question.contract_hash == "h4":
            return [first, 0.1, 0.9 - first]
        return [first, 1 - first]


PRICES = (*map(Decimal, ("101.50", "100", "100.4", "99", "98.5", "104", "NaN")), 100.5, 1e40, OnlyFloat())
WEIGHTS = (8, 4, 4, 4, 2, 2, 1, 1, 1, 1)
EMISSIONS = (EmissionConfig(), EmissionConfig(edge_trigger=True), EmissionConfig(cooldown_s=2.0))
RISKS = (Decimal(1), Decimal(1), Decimal("2.5"), Decimal("0.001"), Decimal("NaN"), float("inf"))
OPTIONS = (
    "confidence_threshold",
    "position_size",
    "outside_training_range",
    "training_range_margin",
    "max_model_age_days",
)


def limits(chance: random.Random) -> dict[str, Any]:
    """Return what may be changed of a strategy that runs."""
    return {
        "enabled": chance.random() < 0.85,
        "max_position_size": chance.choice([None, None, 7]),
        "risk_multiplier": chance.choice(RISKS),
        "active_brokers": chance.choice([("paper",), ("paper", "zerodha")]),
        "emission": chance.choice(EMISSIONS),
    }


def rule(chance: random.Random) -> dict[str, Any]:
    """Return what a strategy asks, of whom, and how far it trusts that."""
    return {
        "kind": chance.choice([ClassifierProcessor] * 5 + [Foreign, Counting]),
        "model": MODELS[chance.choice([0, 0, 0, 1, 1, 2, 3])],
        "features": chance.choice(SETS),
        "confidence_threshold": chance.choice([0.6, 0.6, 0.25, 0.75, -0.5]),
        "position_size": chance.choice([100, 5, 1, 0]),
        "outside_training_range": chance.choice(["refuse", "count"]),
        "training_range_margin": chance.choice([0.0, 0.0, 0.1]),
        "max_model_age_days": chance.choice([None, None, 2.0, 0.5]),
        "shadow": chance.choice([None, None, MODELS[1], MODELS[3]]),
    }


class Scene:
    """Strategies, and windows of ticks with what changes before each window and each tick."""

    def __init__(self, chance: random.Random) -> None:
        self.names = [f"s{number}" for number in range(chance.randint(3, 7))]
        # They ask alike, but for one thing or another.
        first = rule(chance)
        self.rules = {name: first | self._differently(chance) for name in self.names}
        self.tokens = {name: chance.choice([(1,), (1, 2), (2, 1)]) for name in self.names}
        self.windows = [self._window(chance) for _ in range(chance.randint(3, 9))]
        self.limits = [{name: limits(chance) for name in self.names}]
        for _ in self.windows[1:]:
            changed = [name for name in self.names if chance.random() < 0.1]
            self.limits.append({name: limits(chance) for name in changed})
        self.bound = [dict.fromkeys(self._ids, chance.choice([0, 0, 1, 2]))]
        for _ in range(sum(map(len, self.windows)) - 1):
            self.bound.append(self._bound_anew(chance))

    @property
    def _ids(self) -> list[str]:
        return [*self.names, *map(shadow_id, self.names)]

    @staticmethod
    def _differently(chance: random.Random) -> dict[str, Any]:
        other = rule(chance)
        return {key: other[key] for key in chance.sample(sorted(other), chance.choice([0, 1, 1, 2]))}

    @staticmethod
    def _window(chance: random.Random) -> list[tuple[Any, int, int]]:
        prices = chance.choices(PRICES, WEIGHTS, k=chance.randint(1, 8))
        return [
            (price, chance.choice([1, 1, 1, 2]), -30 if chance.random() < 0.05 else 0) for price in prices
        ]

    def _bound_anew(self, chance: random.Random) -> dict[str, int]:
        told = self._ids if chance.random() < 0.5 else chance.sample(self._ids, 2)
        served = chance.choice([0, 1, 1, 2, 2, *range(len(SERVED))])
        return dict.fromkeys(told, served) if chance.random() < 0.15 else {}


class Rig:
    """A runner of some of a scene's strategies, and all that came of them."""

    def __init__(self, scene: Scene, names: Sequence[str]) -> None:
        self._scene = scene
        self._executors = {name: self._executor(name) for name in names}
        self._shadows = {name: shadow_id(name) for name in names if scene.rules[name]["shadow"] is not None}
        wanted = []
        for name, executor in self._executors.items():
            logic: Any = executor.processor
            wanted.append(Wanted(name, logic.model, logic.features))
            if name in self._shadows:
                wanted.append(Wanted(self._shadows[name], logic.shadow.model, logic.shadow.features))
        self.bindings = Table(wanted, scene.bound)
        self._predictor = ByContent()
        self._runner = StrategyRunner(
            list(self._executors.values()),
            self._predictor,
            self.bindings,
            now_ns=lambda: 0,
            shadow_predictor=self._predictor,
            wall_ns=lambda: 2 * 10**18,
        )
        self._said: dict[str, list[str]] = {name: [] for name in names}

    def run(self, *, in_windows: bool) -> dict[str, Any]:
        """Take all ticks; return what each strategy said, and what was counted of it."""
        index = 0
        for day, window in enumerate(self._scene.windows):
            self._predictor.day = day
            for name, executor in self._executors.items():
                if name in self._scene.limits[day]:
                    executor.reconfigure(replace(executor.config, **self._scene.limits[day][name]))
            for ticks in [window] if in_windows else [[each] for each in window]:
                self._take(index, ticks)
                index += len(ticks)
        for each in self._runner.take_comparisons(wait=True):
            self._said[each.live.strategy_id] += [repr(each.live), repr(each.shadow)]
        return {name: (self._said[name], self._counted(name)) for name in self._executors}

    def _take(self, index: int, told: Sequence[tuple[Any, int, int]]) -> None:
        ticks = [
            MarketTick(token, price, OPEN + timedelta(seconds=place + late))
            for place, (price, token, late) in enumerate(told, index)
        ]
        sheet, shadow_sheet = QuestionSheet(apart=True), QuestionSheet(apart=True)
        begun = self._runner.admit(ticks)
        for place, pending in enumerate(begun, index):
            self.bindings.go_to(place)
            self._runner.write(pending, sheet, shadow_sheet)
            self._runner.decide(pending)
        self._runner.send_shadows(begun, shadow_sheet)
        answers = self._predictor.submit(sheet.questions(), 0).result()
        provenance = {"request_id": "r"}
        for pending in begun:
            for outcome in self._runner.conclude(pending, answers, provenance):
                self._said[outcome.strategy_id].append(repr(outcome))

    def _counted(self, name: str) -> list[Any]:
        told: list[Any] = [self._executors[name].counts]
        for each in (name, self._shadows.get(name, name)):
            told += [self._runner.answered_by[each], self._runner.drift[each]]
        return told

    def _executor(self, name: str) -> StrategyExecutor:
        rule, scene = self._scene.rules[name], self._scene
        options = ClassifierOptions(**{key: rule[key] for key in OPTIONS})
        features = FeatureSet(rule["features"])
        second = rule["shadow"]
        shadow = second and ClassifierProcessor(name, second, features, options)
        logic = rule["kind"](name, rule["model"], features, options, shadow=shadow)
        return StrategyExecutor(logic, replace(config(name, scene.tokens[name]), **scene.limits[0][name]))


@pytest.mark.parametrize("seed", range(50))
def test_each_is_as_by_itself(seed: int) -> None:
    """Outcomes, metadata, counts, drift, shadows: what a strategy has among others it has alone.

    Among others in windows of ticks, alone tick by tick, or the other way round.
    And what was seen of other versions, or doubted, is what each of them would see by itself.
    """
    scene = Scene(random.Random(seed))  # noqa: S311 - nobody's secret
    in_windows = seed % 2 == 0
    together = Rig(scene, scene.names)
    came = together.run(in_windows=in_windows)
    seen: set[tuple[str, int, str]] = set()
    doubted = False
    for name in scene.names:
        alone = Rig(scene, [name])
        assert alone.run(in_windows=not in_windows) == {name: came[name]}
        seen |= alone.bindings.seen
        doubted |= alone.bindings.doubted
    assert (together.bindings.seen, together.bindings.doubted) == (seen, doubted)
