"""For users' own tests: a sidecar that is not there, and answers as the test says.

executors = create_executors(strategies, StrategyFactory())
wanted = wanted_models(executors)
fake = FakePredictor.for_wanted(wanted, [0.1, 0.9])          # every model says BUY with 0.9
bindings = Bindings(wanted, fake.describe)
bindings.refresh()
runner = StrategyRunner(executors, fake, bindings)
fake.fail(Reason.DEADLINE_EXCEEDED, times=1)                 # the next tick gets no answer
outcomes = [runner.process(tick) for tick in ticks]
"""

from strategy_client.testing.fake_model import FakeModel
from strategy_client.testing.fake_predictor import FakePredictor

__all__ = ["FakeModel", "FakePredictor"]
