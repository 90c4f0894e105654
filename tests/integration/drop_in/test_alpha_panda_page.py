"""The code of docs/alpha-panda.md, taken out of it and run on a stand-in of Alpha Panda's runner."""

import json
import re
import sys
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from alpha_panda_runner import Row, Runner, SignalResult
from fixtures_session import OPENED
from prometheus_client import CollectorRegistry
from readme_blocks import page_block, readme_block
from sidecars import thread_sidecar

from strategy_client.drop_in.options import OWN_NAMES

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "alpha-panda.md"


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """The stand-in, with its class of signals where the page finds it and the page's modules beside it."""
    for name in ("strategies", "strategies.core", "strategies.core.protocols"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["strategies.core.protocols"], "SignalResult", SignalResult, raising=False)
    (tmp_path / "alpha_panda_ml.py").write_text(page_block(PAGE, "alpha_panda_ml.py"))
    (tmp_path / "own_strategy.py").write_text(readme_block("own_strategy.py"))
    monkeypatch.syspath_prepend(tmp_path)
    made = Runner()
    yield made
    for executor in made.executors.values():
        executor.processor.close()
    for name in ("alpha_panda_ml", "own_strategy"):
        sys.modules.pop(name, None)


def test_the_page_registers_and_trades(runner: Runner) -> None:
    """What the page registers, with the parameters of the page, gives signals of the runner's own class."""
    exec(page_block(PAGE, "register.py"), {"factory": runner})  # noqa: S102 the page's own code
    runner.register_processor("own_ml", "alpha_panda_ml.create_ml_momentum_processor")
    runner.register_processor("own", "alpha_panda_ml.create_round_number_processor")
    [block] = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with thread_sidecar(ROOT / "models") as sidecar:
        parameters = {**json.loads(block), "endpoint": sidecar.unix, "deadline_ms": 10_000}
        # The sample model is seldom sure, and was fitted to a calm market.
        parameters |= {"confidence_threshold": 0.0, "outside_training_range": "count"}
        bare = {
            name: value for name, value in parameters.items() if name not in ("signal_result", "strategy_id")
        }
        rule = {"momentum_threshold": "0.0001", "signal_result": parameters["signal_result"]}
        runner.load(
            [
                Row("es_learned", "ml_momentum", parameters),
                Row("again", "own_ml", bare),
                Row("rule", "momentum", rule),
                Row("own", "own", {"step": "0.5"}),
            ]
        )
        assert (runner.skipped, runner.loaded) == ({}, {"es_learned": True, "again": True})
        prices = 1640 + 0.25 * np.cumsum(np.random.default_rng(1).integers(-1, 2, 120))
        for second, price in enumerate(prices.tolist()):
            when = OPENED + timedelta(seconds=second)
            runner.handle({"instrument_token": 1, "last_price": price, "timestamp": when})
    assert {type(each) for each in runner.results} == {SignalResult}
    assert {each["strategy_id"] for each in runner.emitted} == {"es_learned", "again", "rule", "own"}
    assert runner.executors["es_learned"].processor.strategy_id == "es_learned"
    for executor in runner.executors.values():
        assert executor.processor.outcomes.total() == len(prices)
    registry = CollectorRegistry()
    exec(page_block(PAGE, "metrics.py"), {"registry": registry})  # noqa: S102 the page's own code
    warming = registry.get_sample_value(
        "ml_inference_total", {"strategy": "es_learned", "outcome": "WARMING_UP"}
    )
    assert warming == 49
    assert registry.get_sample_value("ml_inference_latency_seconds_count", {"strategy": "es_learned"}) == 120
    assert registry.get_sample_value("ml_inference_latency_seconds_sum", {"strategy": "es_learned"}) > 0
    assert registry.get_sample_value("ml_model_bound", {"strategy": "es_learned"}) == 1
    told = {sample.labels["strategy"] for metric in registry.collect() for sample in metric.samples}
    assert not any(name.startswith(("momentum", "round")) for name in told), "a rule infers nothing"


def test_the_page_names_every_parameter() -> None:
    """Each parameter of the drop-ins stands in the page's table."""
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == OWN_NAMES | {"endpoint"}
