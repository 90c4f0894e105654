"""What is counted of swaps, refusals and rollbacks, and of the event loop's lag."""

import asyncio

from eventually import eventually
from manual_clock import ManualClock
from servables import FunctionServable

from inference_server.serving.changes import MAX_MODELS, STEPS, Changes
from inference_server.serving.loop_lag import LoopLag, LoopLagOptions
from inference_server.serving.registry import Registry, Standing


def test_a_swap_is_counted_in_the_assignment_that_makes_it() -> None:
    """B1: other bytes, another version, a rollback: each is one swap; a first version is none."""
    changes = Changes()
    registry = Registry(changes=changes)

    def swaps() -> int:
        return changes.models["momentum"].swaps if "momentum" in changes.models else 0

    registry.publish(FunctionServable(version=3, digest="a" * 64), 1)
    assert swaps() == 0
    registry.publish(FunctionServable(version=3, digest="b" * 64), 2)
    assert swaps() == 1
    registry.publish(FunctionServable(version=4), 3)
    assert swaps() == 2
    registry.publish(FunctionServable(version=2), 4)
    registry.publish(FunctionServable("other"), 5)
    assert swaps() == 2
    registry.set_standing("momentum", Standing(default_version=3, labels={"stable": 3}))
    assert swaps() == 3
    registry.set_standing("momentum", Standing(default_version=3, labels={"stable": 4}))
    registry.retire(FunctionServable(version=4).id)
    assert swaps() == 3
    registry.retire(FunctionServable(version=3).id)
    assert swaps() == 4
    registry.retire(FunctionServable(version=2).id)
    registry.publish(FunctionServable(version=2), 6)
    assert swaps() == 4


def test_a_step_that_nobody_knows_makes_no_label() -> None:
    """C9: the process that judges a file may say anything; what it says of the step stays within the list."""
    changes = Changes()
    for step in ("parse", "parse", "../../etc", ""):
        changes.refused("momentum", step)
    assert changes.models["momentum"].refusals == {"parse": 2, "unexpected": 2}
    assert len(STEPS) == len(set(STEPS)) == 12


def test_models_that_changed_longest_ago_are_forgotten() -> None:
    """B3: folders that come and go for ever leave a bounded number of counts."""
    changes = Changes()
    changes.swapped("first")
    changes.swapped("second")
    changes.swapped("first")
    for number in range(MAX_MODELS - 1):
        changes.loaded(f"model {number}", 1)
    assert len(changes.models) == MAX_MODELS
    assert changes.models["first"].swaps == 2
    assert "second" not in changes.models


def test_what_holds_the_loop_is_seen_as_its_lag() -> None:
    """E8: a step that keeps the loop from what is due is measured, by what was late."""

    async def main() -> None:
        clock = ManualClock()
        lag = LoopLag(clock, LoopLagOptions(every_s=0.001))
        measuring = asyncio.create_task(lag.measure())
        await asyncio.sleep(0)
        clock.advance(0.251)  # as if a run had taken so long
        await eventually(lambda: lag.durations.count)
        measuring.cancel()
        assert abs(lag.durations.sum_ns - 250_000_000) < 1000

    asyncio.run(main())
