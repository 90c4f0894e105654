"""What a live run tells of itself: metrics under Alpha Panda's names and ours, probes, the table."""

import io
import re
import threading
from collections.abc import Iterator

import pytest
from fake_sidecar import FakeModel, FakeSidecar
from live_parts import Buyer, PushSource, SetStore, buyer, live_run
from rich.console import Console
from sidecars import eventually

from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick
from strategy_client.live.closing import closing_lines, summarise_live
from strategy_client.live.metrics import health_page, metrics_page, ready_page
from strategy_client.live.session import LiveRun
from strategy_client.live.table import Rate, live_table
from strategy_client.live.view import ALIVE_S

LEARNED = StrategyConfig(
    "learned",
    "ml_momentum",
    {"model": "m", "features": ["return_3", "price"], "lookback_periods": 3, "confidence_threshold": 0.5},
    ("paper", "zerodha"),
    (1,),
)


@pytest.fixture
def live() -> Iterator[LiveRun]:
    """A run that has taken ten ticks of a buyer and a learned strategy, and one of a strange instrument."""
    source = PushSource()
    with (
        FakeSidecar({"m": FakeModel(("return_3", "price"), 3)}) as sidecar,
        live_run(SetStore(buyer(), LEARNED), source, targets=[sidecar.target], deadline_ms=60_000) as run,
    ):
        eventually(lambda: not run.view.degraded() and run.view.endpoints[0].ready, "it is bound")
        source.push(*range(1, 11))
        source.push(1, token=9)
        eventually(lambda: run.loop.ticks == 11, "the ticks")
        before = run.loop.heartbeat_ns
        eventually(lambda: run.loop.heartbeat_ns > before and run.view.edge["unknown_instrument"], "a look")
        yield run


def scraped(live: LiveRun) -> dict[str, float]:
    """Each sample by its name and labels."""
    text = metrics_page(live.view)[2].decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_alpha_panda_finds_its_names_and_labels(live: LiveRun) -> None:
    """Dashboards made for Alpha Panda's runner go on: its names, its labels, and the two it never built."""
    found = scraped(live)
    signals = "trading_signals_generated_total"
    assert found[f'{signals}{{broker="paper",signal_type="BUY",strategy_id="buyer"}}'] == 10
    assert found[f'{signals}{{broker="zerodha",signal_type="BUY",strategy_id="learned"}}'] == 8
    assert f'{signals}{{broker="zerodha",signal_type="BUY",strategy_id="buyer"}}' not in found
    latency = 'trading_processing_latency_seconds_count{event_type="market_tick",service="strategy_runner"}'
    assert found[latency] == 10
    assert found['ml_model_load_success_total{strategy_id="learned"}'] == 1
    assert found['ml_inference_total{strategy="learned"}'] == 8
    assert found['ml_inference_latency_seconds_count{strategy="learned"}'] == 8
    assert found['ml_inference_latency_seconds_bucket{le="+Inf",strategy="learned"}'] == 8


def test_counters_are_the_summary(live: LiveRun) -> None:
    """What is scraped and what is written at the end are the same numbers."""
    live.stop()
    found = scraped(live)
    summary = summarise_live(live.view, live.bad, live.files)
    assert summary.ticks == found["tickserve_client_ticks_total"] == 11
    for strategy in summary.strategies:
        assert strategy.ticks == 10
        assert sum(strategy.outcomes.values()) == 10
        for outcome, count in strategy.outcomes.items():
            labels = f'{{outcome="{outcome}",strategy_id="{strategy.strategy_id}"}}'
            assert found[f"tickserve_client_outcomes_total{labels}"] == count
    assert summary.calls is not None
    (target,) = live.options.targets
    assert summary.calls.answered == 8
    assert found[f'tickserve_client_requests_total{{result="answered",target="{target}"}}'] == 8
    assert found['tickserve_client_edge_ticks_total{noticed="unknown_instrument"}'] == 1
    assert summary.edge.unknown_instrument == 1
    assert summary.deadline_ms == 60_000


def test_sidecar_model_and_configuration_are_told(live: LiveRun) -> None:
    """Which bytes answer, which sidecar is asked, and how the configuration is."""
    found = scraped(live)
    (target,) = live.options.targets
    assert any(
        re.match(r"tickserve_client_model_info\{digest=\"\w{64}\",model=\"m\"", name) for name in found
    )
    assert found[f'tickserve_client_endpoint_in_use{{target="{target}"}}'] == 1
    assert found[f'tickserve_client_breaker_state{{state="closed",target="{target}"}}'] == 1
    assert found[f'tickserve_client_breaker_state{{state="open",target="{target}"}}'] == 0
    assert found['tickserve_client_strategy_bound{strategy_id="learned"}'] == 1
    assert found["tickserve_client_configuration_problems"] == 0
    assert found["tickserve_client_feed_silent"] == 0
    assert found["tickserve_client_queue_ticks"] == 0
    assert found["process_start_time_seconds"] > 0


def test_every_metric_is_documented(live: LiveRun) -> None:
    """The page of the live run has a row for each name that a scrape shows."""
    from pathlib import Path

    page = (Path(__file__).parents[3] / "docs" / "running-strategies.md").read_text()
    text = metrics_page(live.view)[2].decode()
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    missing = {name for name in names if f"`{name}`" not in page and not name.startswith("process_")}
    assert missing == set()


def test_hard_scraping_takes_no_tick_its_turn(live: LiveRun) -> None:
    """A scrape holds no lock that the loop waits for: while scrapes run, each tick is taken."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            metrics_page(live.view)

    scrapers = [threading.Thread(target=scrape) for _ in range(3)]
    for scraper in scrapers:
        scraper.start()
    source = live.intake._source
    assert isinstance(source, PushSource)
    for count in range(12, 62):
        source.push(count)
        eventually(lambda count=count: live.loop.ticks == count, "the tick is taken")
    stop.set()
    for scraper in scrapers:
        scraper.join(60)
    assert scraped(live)["tickserve_client_ticks_total"] == 61


def test_loop_that_hangs_is_dead_to_the_probe(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """/healthz asks the loop's heartbeat: one that stands still is 503, with for how long."""
    assert health_page(live.view)[0] == 200
    assert ready_page(live.view)[::2] == (200, b"ok\n")
    go_on = threading.Event()

    def hang(_tick: MarketTick) -> None:
        go_on.wait(60)

    monkeypatch.setattr(Buyer, "before", staticmethod(hang))
    source = live.intake._source
    assert isinstance(source, PushSource)
    source.push(1)
    eventually(lambda: live.loop.ticks == 12, "it hangs")
    later = live.loop.heartbeat_ns + int((ALIVE_S + 1) * 1e9)
    monkeypatch.setattr(live.view, "_now_ns", lambda: later)
    status, _, text = health_page(live.view)
    assert (status, text) == (503, b"the loop has not come round for 11 s\n")
    assert ready_page(live.view)[0] == 503
    go_on.set()


@pytest.mark.parametrize("width", [80, 140])
def test_table_cuts_no_number_off(live: LiveRun, width: int) -> None:
    """On a terminal of either width: each strategy, its sides and reasons, its model, and the sidecar."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(live_table(live.view, Rate()))
    printed = console.file.getvalue()
    assert all(len(line) <= width for line in printed.splitlines())
    assert re.search(r"learned +8 +0 +WARMING_UP 2 +m 1", printed)
    assert re.search(r"buyer +10 +0", printed)
    for part in ("11 ticks", "in use, breaker closed", "answered over", "1 unknown instrument"):
        assert part in printed.replace("\n", " ")


def test_closing_lines_tell_what_was_lost(live: LiveRun) -> None:
    """At the end a person reads what went wrong, by kind."""
    live.journal.problem("listener", "it raised")
    assert "problems, listener: 1" in list(closing_lines(live.view))
