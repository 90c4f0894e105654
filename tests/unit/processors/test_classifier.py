"""The logic around a model."""

import json
from decimal import Decimal

import numpy as np
import pytest
from fixtures_ticks import ticks

from strategy_client.configuration import ConfigurationError
from strategy_client.events import Reason
from strategy_client.history import History
from strategy_client.processors.classifier import ClassifierOptions, ClassifierProcessor
from strategy_client.processors.ml_breakout import create_ml_breakout_processor
from strategy_client.processors.ml_mean_reversion import create_ml_mean_reversion_processor
from strategy_client.processors.ml_momentum import create_ml_momentum_processor
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow
from strategy_client.processors.processor import LearnedProcessor

PRICES = [100.0, 100.5, 100.25, 101.0, 100.75, 101.5, 101.25]


def processor(**parameters):
    return create_ml_momentum_processor({"model": "m", "features": ["return_3", "price"], **parameters})


def interpreted(*probabilities, meanings=None, **parameters):
    learned = processor(**parameters)
    if meanings:
        learned.bind(ClassMeanings(tuple(str(index) for index in range(len(meanings))), meanings))
    tick = ticks(["61837.63"])[0]
    return learned.interpret(tick, np.array([0.5, 101.25], np.float32), PredictionRow("1", probabilities))


@pytest.mark.parametrize(
    ("create", "names", "window"),
    [
        (
            create_ml_momentum_processor,
            ("return_20", "momentum_5", "volatility_20", "price", "history_length"),
            20,
        ),
        (create_ml_mean_reversion_processor, ("zscore_20", "price", "volatility_20", "history_length"), 20),
        (
            create_ml_breakout_processor,
            ("breakout_up_30", "breakout_down_30", "mean_abs_return_30", "price"),
            31,
        ),
    ],
)
def test_features_are_those_of_origin(create, names, window):
    """Each learned strategy has ORIGIN's features over its default lookback."""
    learned = create({"model_path": "models/some.onnx"})
    assert isinstance(learned, LearnedProcessor)
    assert learned.features.names == names
    assert learned.get_required_history_length() == window
    assert f"ml_{learned.get_strategy_name()[3:]}" == learned.get_strategy_name()
    assert create({"model": "m", "lookback_periods": "7"}).features.names[0] == names[0][:-2] + "7"


def test_class_1_is_buy_and_class_0_is_sell():
    """Without a contract, class 1 means BUY and 0 SELL; the confidence is the probability."""
    bought, sold = interpreted(0.25, 0.75), interpreted(0.75, 0.25, position_size=3)
    assert (bought.signal_type, bought.confidence, bought.quantity) == ("BUY", 0.75, 100)
    assert (sold.signal_type, sold.confidence, sold.quantity) == ("SELL", 0.75, 3)


def test_the_price_is_the_ticks():
    """ORIGIN defect 3: the price comes from the tick, exactly, not out of the float32 features."""
    assert interpreted(0.1, 0.9).price == Decimal("61837.63")


def test_metadata_holds_what_the_model_saw_and_said():
    """Its probability, those of all classes and the features by name travel along, as plain JSON."""
    metadata = interpreted(0.25, 0.75).metadata
    assert metadata == {
        "probability": 0.75,
        "probabilities": {"0": 0.25, "1": 0.75},
        "confidence_threshold": 0.6,
        "features": {"return_3": 0.5, "price": 101.25},
    }
    assert json.loads(json.dumps(metadata)) == metadata


@pytest.mark.parametrize(
    ("probabilities", "reason"),
    [
        ((0.4, 0.6), Reason.BELOW_THRESHOLD),
        ((0.5, 0.5), Reason.BELOW_THRESHOLD),
        ((float("nan"), 0.9), Reason.NON_FINITE),
        ((0.1, float("inf")), Reason.NON_FINITE),
        ((float("inf"), float("-inf")), Reason.NON_FINITE),
        ((1.5e308, 1.5e308), Reason.INVALID_SIGNAL),
        ((0.1, 1.2), Reason.INVALID_SIGNAL),
        ((-0.2, 0.9), Reason.INVALID_SIGNAL),
        ((0.9,), Reason.CONTRACT_MISMATCH),
        ((), Reason.CONTRACT_MISMATCH),
        ((0.0, 0.0, 1.0), Reason.CONTRACT_MISMATCH),
    ],
)
def test_an_answer_without_a_signal_has_its_reason(probabilities, reason):
    """At the threshold there is no signal; numbers that are no probabilities are never used."""
    assert interpreted(*probabilities) is reason


def test_meanings_of_the_contract_decide():
    """After bind the contract says what a column means, be it HOLD or nothing."""
    meanings = ("BUY", "HOLD", "SELL", "")
    assert interpreted(0.9, 0.0, 0.1, 0.0, meanings=meanings).signal_type == "BUY"
    assert interpreted(0.0, 0.1, 0.9, 0.0, meanings=meanings).signal_type == "SELL"
    assert interpreted(0.0, 0.9, 0.1, 0.0, meanings=meanings) is Reason.HOLD
    assert interpreted(0.0, 0.1, 0.0, 0.9, meanings=meanings) is Reason.HOLD


def test_equal_probabilities_are_hold():
    """Under a low threshold two equal largest probabilities name no side."""
    assert interpreted(0.5, 0.5, confidence_threshold="0.4") is Reason.HOLD


def test_a_probability_just_over_one_is_one():
    """What a float32 softmax rounds above 1 gives a confidence of 1."""
    assert interpreted(0.0, 1.0000001).confidence == 1.0


def test_a_model_without_a_side_cannot_be_bound():
    """H9: a contract in which no class means BUY or SELL is refused when it is bound."""
    with pytest.raises(ConfigurationError, match="no class of 'm' means BUY or SELL"):
        processor().bind(ClassMeanings(("a", "b"), ("HOLD", "")))


def test_features_are_the_same_from_a_list():
    """The row is float32 and new each time; Alpha Panda's list gives the row that our history gives."""
    learned = create_ml_momentum_processor({"model": "m", "lookback_periods": 5})
    history = History(6)
    for one in ticks(PRICES):
        history.append(one)
        row = learned.extract_features(one, history)
    plain = learned.extract_features(history[-1], list(history))
    assert row.dtype == np.float32
    assert row is not learned.extract_features(history[-1], history)
    np.testing.assert_allclose(plain, row, rtol=1e-6)
    assert row.tolist()[3:] == [101.25, 5.0]


@pytest.mark.parametrize(
    ("parameters", "name", "version"),
    [
        ({"model_path": "strategies/ml/trend_v1.joblib"}, "trend_v1", 0),
        ({"model_path": "trend.onnx", "model_version": "3"}, "trend", 3),
        ({"model_path": "models/trend/12/model.onnx"}, "trend", 0),
        ({"model_path": "C:\\models\\trend\\12\\model.onnx"}, "trend", 0),
        ({"model": "trend", "model_version": 4}, "trend", 4),
    ],
)
def test_a_path_stands_for_a_models_name(parameters, name, version):
    """A file's name, or its folder's in the layout with versions, is the model's; the version stays open."""
    model = create_ml_momentum_processor(parameters).model
    assert (model.name, model.version, model.endpoint) == (name, version, None)


def test_an_endpoint_is_kept():
    """A strategy may name a sidecar of its own."""
    assert processor(endpoint="unix:/run/other.sock").model.endpoint == "unix:/run/other.sock"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"model": "m", "model_path": "m.onnx"},
        {"model_path": "model.pkl"},
        {"model_path": "models/../.onnx"},
        {"model": "../etc"},
    ],
)
def test_an_unusable_model_says_what_alpha_panda_looks_for(parameters):
    """The text begins as Alpha Panda's runner expects, so that it skips the strategy and goes on."""
    with pytest.raises(ValueError, match=r"^Failed to load ML model from "):
        create_ml_momentum_processor(parameters)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"features": ["zcore_20"]}, r"^features: unknown feature 'zcore_20' \(did you mean 'zscore_20'"),
        ({"features": "price"}, "^features: expected a list of feature names, came 'price'"),
        ({"confidence_threshold": 1}, "^confidence_threshold: expected a number from 0 to below 1, came 1"),
        ({"model_version": -1}, "^model_version: expected an integer from 0"),
        ({"endpoint": ""}, "^endpoint: expected a text, came ''"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, said):
    """H9: each wrong value is one line with what was expected and what came."""
    with pytest.raises(ConfigurationError, match=said):
        create_ml_momentum_processor({"model": "m", **parameters})


def test_alpha_panda_sees_a_healthy_learned_processor():
    """ORIGIN: it is taken as ML-capable by `extract_features`, and as healthy by a model that is not None."""
    learned = processor()
    assert hasattr(learned, "extract_features")
    assert learned.model == ModelReference("m")


def test_one_call_asks_and_interprets():
    """With something to ask, `process_tick` is the whole way, and every reason for no signal is None."""
    asked = []
    answers = iter([PredictionRow("1", (0.1, 0.9)), PredictionRow("1", (0.5, 0.5)), Reason.UNAVAILABLE])

    def ask(model, row):
        asked.append((model.name, row.tolist()))
        return next(answers)

    made = processor()
    learned = ClassifierProcessor("own", made.model, made.features, ClassifierOptions(), ask)
    history = ticks([100, 101, 102, 104, 108])
    results = [learned.process_tick(history[end - 1], history[:end]) for end in range(1, 6)]
    assert [result and result.signal_type for result in results] == [None, None, "BUY", None, None]
    assert asked[0] == ("m", [pytest.approx(0.02), 102.0])
    assert len(asked) == 3


def test_without_anything_to_ask_it_says_so():
    """A learned processor on its own cannot answer: raising is PROCESSOR_ERROR, never a silent HOLD."""
    history = ticks(PRICES)
    with pytest.raises(RuntimeError, match="ml_momentum has nothing to ask 'm' through"):
        processor().process_tick(history[-1], history)
