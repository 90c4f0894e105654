"""What a person sees of a replay."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from strategy_client.edge import TickCounts
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.recording.summary import ModelAnswers, Replaced, StrategySummary, Summary, TickLatency
from strategy_client.recording.table import summary_table

LONG = "a_learned_strategy_with_a_name_that_goes_on_and_on_and_on"
OUTCOMES = {
    "BUY": 123_456,
    "SELL": 234_567,
    "BELOW_THRESHOLD": 141_827,
    "CONTRACT_MISMATCH": 100,
    "WARMING_UP": 50,
}
SUMMARY = Summary(
    ticks=500_000,
    seconds=3.0,
    window=1,
    latency_us=TickLatency(640.12, 1_420.0, 2_000.0),
    strategies=[
        StrategySummary(
            "ml_momentum",
            "ml_momentum",
            learned=True,
            ticks=500_000,
            outcomes=OUTCOMES,
            models=[ModelAnswers("es_momentum", version, f"{version}" * 64, 499_950) for version in (1, 2)],
        )
    ],
    edge=TickCounts(),
    bad_lines=0,
    first_bad_lines=[],
    replaced=[Replaced(250_000, "es_momentum", "new.onnx", "2" * 64, "")],
    calls=PredictorCounts(requests=499_950, answered=499_950),
    files={"summary": "out/summary.json"},
)


def shown(summary: Summary, width: int) -> str:
    """Return what is printed on a terminal of a width."""
    console = Console(record=True, width=width, file=StringIO())
    console.print(summary_table(summary))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("name", ["ml_momentum", LONG])
def test_no_number_is_cut_off(width: int, name: str) -> None:
    """On 80 columns and more every number, reason, version and digest is there in one piece."""
    text = shown(replace(SUMMARY, strategies=[replace(SUMMARY.strategies[0], strategy_id=name)]), width)
    assert "…" not in text
    words = text.split()
    for word in (
        "500,000",
        "123,456",
        "234,567",
        "141,827",
        "CONTRACT_MISMATCH",
        "1" * 12,
        "2" * 12,
        "499,950",
    ):
        assert word in words
    assert "es_momentum" in text


def test_traditional_strategies_alone_show_no_models() -> None:
    """Where nothing was asked there is no table of answers."""
    text = shown(replace(SUMMARY, strategies=[replace(SUMMARY.strategies[0], models=[])]), 80)
    assert "digest" not in text
    assert "BELOW_THRESHOLD 141,827" in text


def test_what_was_wrong_with_the_ticks_is_told() -> None:
    """Bad lines with the first of them, invalid ticks and ticks from the past are told, if there are any."""
    assert not {"bad", "refused:"} & set(shown(SUMMARY, 80).split())
    edge = TickCounts(taken=9, invalid=2, out_of_order=3)
    text = shown(replace(SUMMARY, edge=edge, bad_lines=1_234, first_bad_lines=["t.csv:7: price: x"]), 80)
    assert "ticks refused: 2 invalid, 3 out of order" in text
    assert "bad lines skipped: 1,234\n  t.csv:7: price: x" in text
