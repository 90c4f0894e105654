"""What the tests of the drop-ins share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_sidecar import FakeModel, FakeSidecar

from strategy_client.drop_in import Creator, DropInProcessor, creator

FEATURES = ("return_3", "price")
MODEL = FakeModel(FEATURES, window=3)


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """A server that answers BUY where the return is positive, SELL otherwise."""
    with FakeSidecar({"m": MODEL}) as running:
        yield running


@pytest.fixture
def make(sidecar: FakeSidecar) -> Iterator[Callable[..., Any]]:
    """Make a learned drop-in that asks `m`; closed at the end."""
    made: list[DropInProcessor] = []

    def one(create: Creator = creator("ml_momentum"), **parameters: object) -> DropInProcessor:  # noqa: B008
        chosen = {"model": "m", "endpoint": sidecar.target, "features": list(FEATURES), **parameters}
        processor = create({"deadline_ms": 60_000, **chosen})
        made.append(processor)
        return processor

    yield one
    for processor in made:
        processor.close()
