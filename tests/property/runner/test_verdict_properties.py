"""Classifiers of ours are judged by their rule, once for all of one rule: nothing of it shows."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
from fixtures_runner import FEATURES, config, contract, description, yes
from fixtures_runner import RecordingPredictor as Predictor
from fixtures_ticks import tick
from hypothesis import example, given
from hypothesis import strategies as st

from strategy_client.binding import Wanted
from strategy_client.bindings import Bindings
from strategy_client.events import Outcome
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet
from strategy_client.predictor.description import OutputKind, OutputMeaning
from strategy_client.processors.classifier import ClassifierOptions, ClassifierProcessor
from strategy_client.processors.model import ModelReference
from strategy_client.runner import StrategyRunner


class Foreign(ClassifierProcessor):
    """Interprets as its base does, and is not known to: it is asked for each outcome."""


class OnlyFloat:
    """A price that can be asked for its number, and not compared."""

    def __float__(self) -> float:
        """Return the number."""
        return 101.5

    def __str__(self) -> str:
        """Return it as text."""
        return "101.5"


PROBABILITIES = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75, 1.0, 1.000001, 1.1, -1e-6, -0.2, float("nan"), float("inf")]),
    st.floats(0, 1),
)
MEANINGS = st.sampled_from([("SELL", "BUY"), ("BUY", "SELL"), ("HOLD", "BUY"), ("SELL", ""), ()])
PRICES = st.sampled_from(
    [Decimal("101.50"), Decimal("1E+2"), Decimal(99), 101.5, 101, np.float32(101.1), OnlyFloat()]
)
RULES = st.lists(
    st.tuples(
        st.sampled_from([-0.5, 0.0, 0.25, 0.6, 0.75]),
        st.sampled_from([0, 1, 100]),
        st.sampled_from([0.0, 0.001, 1.0, 2.5, float("inf")]),
        st.sampled_from([None, 7]),
    ),
    min_size=1,
    max_size=4,
)
OUTPUTS = st.one_of(
    st.lists(PROBABILITIES, min_size=2, max_size=2),
    st.sampled_from([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]),
    st.lists(PROBABILITIES, max_size=3),
)


def _outcomes(
    kind: type[ClassifierProcessor],
    rules: Sequence[tuple[Any, ...]],
    meanings: tuple[str, ...],
    ticks: Sequence[tuple[Any, list[float]]],
    dtype: str,
) -> list[Outcome]:
    features, model = FeatureSet(FEATURES), ModelReference("m")
    executors = []
    for number, (threshold, size, risk, most) in enumerate(rules):
        options = ClassifierOptions(confidence_threshold=threshold, position_size=size)
        limits = {"risk_multiplier": risk, "max_position_size": most}
        logic = kind("ml", model, features, options)
        executors.append(StrategyExecutor(logic, config(f"s{number}", **limits)))
    told = (
        OutputMeaning("label", OutputKind.LABEL, ("0", "1")[: len(meanings)], meanings),
        OutputMeaning("probabilities", OutputKind.PROBABILITIES, ("0", "1")[: len(meanings)], meanings),
    )
    bindings = Bindings(
        [Wanted(each.strategy_id, model, features) for each in executors],
        lambda _: description(contract(outputs=told)),
    )
    bindings.refresh()
    answers = iter([output for _, output in ticks])

    def answer(question: Any) -> Any:
        with np.errstate(invalid="ignore"):
            row = np.array([next(answers)], np.float64).astype(dtype)
        return yes(question, outputs={"label": np.ones(1, np.int64), "probabilities": row})

    runner = StrategyRunner(executors, Predictor(answer), bindings)
    outcomes: list[Outcome] = []
    for second, price in enumerate([100, 101, *(price for price, _ in ticks)]):
        provenance = {"latency_us": 5, "request_id": f"r{second}"}
        now = replace(tick(100, second=second), last_price=price)
        pending = runner.begin(now)
        answered = pending.answers.result() if pending.answers is not None else ()
        outcomes += runner.conclude(pending, answered, provenance)
    return outcomes


@example(
    rules=[(-0.5, 100, 1.0, None)],
    meanings=("SELL", "BUY"),
    ticks=[(Decimal(101), [0.0, 1.000001]), (Decimal(101), [-2e-6, -1e-6])],
    dtype="<f8",
)
@example(
    rules=[(0.5, 100, 1.0, None)],
    meanings=("SELL", "BUY"),
    ticks=[(Decimal(101), [0.0, 1.000001])],
    dtype="<f8",
)
@given(
    rules=RULES,
    meanings=MEANINGS,
    ticks=st.lists(st.tuples(PRICES, OUTPUTS), min_size=1, max_size=4),
    dtype=st.sampled_from(["<f8", "<f4", "<i8"]),
)
def test_what_a_classifier_of_ours_says_is_what_one_says_that_is_asked_each_time(
    rules: list[tuple[Any, ...]],
    meanings: tuple[str, ...],
    ticks: list[tuple[Any, list[float]]],
    dtype: str,
) -> None:
    """Each outcome is the same to the last digit, its metadata in the same order, whatever is answered."""
    ours, theirs = (_outcomes(kind, rules, meanings, ticks, dtype) for kind in (ClassifierProcessor, Foreign))
    assert list(map(repr, ours)) == list(map(repr, theirs))
