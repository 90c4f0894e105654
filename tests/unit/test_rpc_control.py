"""`tickserve.v1.Control` before an operator that writes down what it is told."""

import asyncio
from typing import Any

import pytest
from tickserve.v1 import control_pb2 as wire

from inference_server.core.errors import InvalidRequestError, RefusedError
from inference_server.rpc.control import Control
from inference_server.rpc.method import CallContext
from inference_server.serving.archive import Kept
from inference_server.serving.decisions import RolledBack

CALL = CallContext(None, "r-1")


class Operator:
    """Takes every order, or refuses all."""

    def __init__(self) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None

    async def rollback(self, name: str) -> RolledBack:
        self._take("rollback", name)
        return RolledBack(Kept(4, "d" * 64), Kept(3, "c" * 64), ("stable", "canary"))

    async def resume(self, name: str) -> None:
        self._take("resume", name)

    async def set_label(self, name: str, label: str, version: int) -> None:
        self._take("set_label", name, label, version)

    async def remove_label(self, name: str, label: str) -> None:
        self._take("remove_label", name, label)

    def _take(self, *order: Any) -> None:
        if self.refusal:
            raise self.refusal
        self.orders.append(order)


@pytest.fixture
def operator() -> Operator:
    """An operator to look into."""
    return Operator()


def ask(operator: Operator, name: str, request: Any) -> Any:
    """Call one RPC by its row in the method table."""
    rows = {method.path: method.unary for method in Control(operator).methods()}
    return asyncio.run(rows[f"/tickserve.v1.Control/{name}"](request, CALL))


def test_every_rpc_of_the_proto_is_answered(operator: Operator) -> None:
    """The method table has each RPC of the service, with its messages."""
    rows = {method.path.rpartition("/")[2]: method for method in Control(operator).methods()}
    service = wire.DESCRIPTOR.services_by_name["Control"]
    assert set(rows) == set(service.methods_by_name)
    for name, method in service.methods_by_name.items():
        assert rows[name].request.DESCRIPTOR is method.input_type
        assert rows[name].response.DESCRIPTOR is method.output_type


def test_a_rollback_says_from_what_to_what(operator: Operator) -> None:
    """The answer names both versions and digests, and the labels that moved, sorted."""
    done = ask(operator, "Rollback", wire.RollbackRequest(model="momentum"))
    assert operator.orders == [("rollback", "momentum")]
    assert (done.from_version, done.from_digest) == (4, "d" * 64)
    assert (done.to_version, done.to_digest) == (3, "c" * 64)
    assert list(done.moved_labels) == ["canary", "stable"]


def test_the_other_orders_reach_the_operator(operator: Operator) -> None:
    """Resume, a label set and a label taken away arrive as they were said."""
    ask(operator, "Resume", wire.ResumeRequest(model="a"))
    ask(operator, "SetLabel", wire.SetLabelRequest(model="b", label="canary", version=7))
    ask(operator, "DeleteLabel", wire.DeleteLabelRequest(model="c", label="stable"))
    assert operator.orders == [
        ("resume", "a"),
        ("set_label", "b", "canary", 7),
        ("remove_label", "c", "stable"),
    ]


@pytest.mark.parametrize("version", [0, -3])
def test_a_version_below_1_is_refused(operator: Operator, version: int) -> None:
    """What can be no version is INVALID_ARGUMENT with what was expected, and goes no further."""
    with pytest.raises(InvalidRequestError, match=f"expected an integer above 0, came {version}"):
        ask(operator, "SetLabel", wire.SetLabelRequest(model="m", label="ok", version=version))
    assert operator.orders == []


def test_a_refusal_passes_as_it_is(operator: Operator) -> None:
    """What the model's state does not allow comes to the caller with the operator's own words."""
    operator.refusal = RefusedError("there is nothing to go back to")
    with pytest.raises(RefusedError, match="there is nothing to go back to"):
        ask(operator, "Rollback", wire.RollbackRequest(model="m"))
