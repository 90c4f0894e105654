"""The registry: look-ups, swaps, draining and what it says of everything."""

import asyncio

import pytest
from servables import FunctionServable

from inference_server.core.errors import NotFoundError, UnavailableError
from inference_server.core.servable import ServableId, State, VersionStatus
from inference_server.serving.registry import Registry, Standing


def test_the_default_version_is_the_greatest_available():
    """A4: a call without a version gets the greatest one, whatever is published later."""
    registry = Registry()
    registry.publish(FunctionServable(version=2), 1)
    assert registry.resolve("momentum", 0).servable.id.version == 2
    registry.publish(FunctionServable(version=10), 1)
    registry.publish(FunctionServable(version=9), 1)
    assert registry.resolve("momentum", 0).servable.id.version == 10
    assert registry.resolve("momentum", 9).servable.id.version == 9
    assert registry.describe()[0].default_version == 10


def test_unknown_models_and_versions_are_not_found():
    """An unknown model or version is NotFoundError, and the text names the versions that there are."""
    registry = Registry()
    with pytest.raises(NotFoundError, match="no model 'momentum'"):
        registry.resolve("momentum", 0)
    registry.publish(FunctionServable(version=3), 1)
    with pytest.raises(NotFoundError, match="no version 4; it has 3"):
        registry.resolve("momentum", 4)


def test_known_versions_that_do_not_answer_are_unavailable_with_state_and_reason():
    """A version that loads, or failed, is UnavailableError, and the text has its state and reason."""
    registry = Registry()
    id_ = ServableId("momentum", 3)
    registry.set_status(VersionStatus(id_, State.LOADING))
    with pytest.raises(UnavailableError, match="version 3 is LOADING"):
        registry.resolve("momentum", 0)
    registry.set_status(VersionStatus(id_, State.END, "wrong answers"))
    with pytest.raises(UnavailableError, match=r"version 3 is END \(wrong answers\)"):
        registry.resolve("momentum", 3)


def test_a_model_with_nothing_but_a_problem_is_known():
    """A2: a model whose only file is bad is unavailable with its problem, not unknown."""
    registry = Registry()
    registry.set_standing("momentum", Standing(problem="the file is empty"))
    with pytest.raises(UnavailableError, match="the file is empty"):
        registry.resolve("momentum", 0)
    registry.set_standing("momentum", Standing(problem=""))
    with pytest.raises(NotFoundError):
        registry.resolve("momentum", 0)


def test_names_in_errors_are_escaped_and_bounded():
    """D13, D16: a name with control characters or of absurd length comes back escaped and short."""
    with pytest.raises(NotFoundError) as caught:
        Registry().resolve("a\0\n" + "x" * 100_000, 0)
    text = str(caught.value)
    assert "\\x00\\n" in text
    assert "\0" not in text
    assert len(text) < 200


def test_retiring_waits_for_calls_in_flight_and_takes_the_version_out_at_once():
    """B5: a retired version answers nobody new, and is handed over only after its last call ended."""

    async def scenario():
        registry = Registry()
        servable = FunctionServable()
        registry.publish(servable, 1)
        entry = registry.resolve("momentum", 0)
        entry.acquire()
        entry.acquire()
        retiring = asyncio.create_task(registry.retire(servable.id).drain())
        assert not registry.model_ready("momentum")
        with pytest.raises(UnavailableError, match="UNLOADING"):
            registry.resolve("momentum", 1)
        entry.release()
        assert "1 in flight" in repr(entry)
        assert not (await asyncio.wait([retiring], timeout=0.02))[0]
        entry.release()
        assert await retiring is servable
        registry.forget(servable.id)
        assert registry.describe() == []

    asyncio.run(scenario())


def test_publishing_the_same_id_hands_back_the_entry_it_replaces():
    """New bytes under an old id replace it in one step; the old entry is the publisher's to drain."""

    async def scenario():
        registry = Registry()
        old, new = FunctionServable(digest="a" * 64), FunctionServable(digest="b" * 64)
        assert registry.publish(old, 1) is None
        held = registry.resolve("momentum", 0)
        held.acquire()
        replaced = registry.publish(new, 2)
        assert replaced is held
        assert registry.resolve("momentum", 0).servable is new
        draining = asyncio.create_task(replaced.drain())
        assert not (await asyncio.wait([draining], timeout=0.02))[0]
        held.release()
        assert await draining is old

    asyncio.run(scenario())


def test_ready_needs_a_model_and_every_required_one():
    """F1: no model is not ready; with required models, each must be available."""
    registry = Registry()
    assert not registry.ready()
    registry.require({"momentum", "breakout"})
    registry.publish(FunctionServable("momentum"), 1)
    assert not registry.ready()
    registry.publish(FunctionServable("breakout"), 1)
    assert registry.ready()


def test_models_named_to_the_constructor_are_the_required_ones():
    """F1: what was found at the start does not widen a required set that was given."""
    registry = Registry(required=["momentum"])
    registry.require({"momentum", "breakout"})
    registry.publish(FunctionServable("momentum"), 1)
    assert registry.ready()


def test_a_required_model_that_nobody_has_seen_is_shown():
    """F1: what keeps the server from being ready can be read, and a call says retry, not fix the call."""
    registry = Registry(required=["momentum"])
    (status,) = registry.describe()
    assert (status.name, status.versions, status.problem) == ("momentum", (), "required, but not found yet")
    with pytest.raises(UnavailableError, match="required, but not found yet"):
        registry.resolve("momentum")
    registry.publish(FunctionServable("momentum"), 1)
    assert registry.describe()[0].problem == ""


def test_a_swap_and_a_failed_candidate_never_flip_readiness():
    """F1: ready stays true through publish, retire of the old version and a later failure."""

    async def scenario():
        registry = Registry()
        registry.require({"momentum"})
        registry.publish(FunctionServable(version=1), 1)
        registry.set_status(VersionStatus(ServableId("momentum", 2), State.LOADING))
        assert registry.ready()
        registry.publish(FunctionServable(version=2), 1)
        assert registry.ready()
        await registry.retire(ServableId("momentum", 1)).drain()
        assert registry.ready()
        registry.set_status(VersionStatus(ServableId("momentum", 3), State.END, "truncated"))
        registry.set_standing("momentum", Standing(problem="version 3: truncated"))
        assert registry.ready()

    asyncio.run(scenario())


def test_describe_is_sorted_and_leaves_unknown_names_out():
    """Models by name, versions newest first, unknown names nowhere."""
    registry = Registry()
    for name, version in (("b", 1), ("a", 1), ("a", 2)):
        registry.publish(FunctionServable(name, version), 7)
    told = registry.describe()
    assert [(m.name, [v.id.version for v in m.versions]) for m in told] == [("a", [2, 1]), ("b", [1])]
    assert told[0].versions[0].available_since_ns == 7
    assert [model.name for model in registry.describe(["b", "z"])] == ["b"]


def test_waiting_for_a_change_returns_on_change_and_only_then():
    """F2: every waiter gets the new revision; setting what is set already is no change."""

    async def scenario():
        registry = Registry()
        registry.set_standing("momentum", Standing(problem="empty"))
        seen = registry.revision
        waiters = [asyncio.create_task(registry.wait_changed(seen)) for _ in range(3)]
        waiters.pop().cancel()
        registry.set_standing("momentum", Standing(problem="empty"))
        assert not (await asyncio.wait(waiters, timeout=0.02))[0]
        registry.set_standing("momentum", Standing(problem=""))
        assert await asyncio.gather(*waiters) == [seen + 1, seen + 1]
        assert await registry.wait_changed(seen) == seen + 1

    asyncio.run(scenario())
