"""What `/metrics` says of models and versions, state by state."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from manual_clock import ManualClock
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from servables import CONTRACT, FunctionServable

from inference_server.core.servable import ServableId, State, VersionStatus, VettingResult
from inference_server.http.metrics import metrics
from inference_server.http.served_metrics import ServedCollector
from inference_server.serving.changes import Changes
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry, Standing

S = 10**9
VETTED = VettingResult(vetted_at_ns=900 * S, verified=True, text="good", memory_bytes=4096)
PLAIN = VettingResult(vetted_at_ns=950 * S, verified=False, text="plain", memory_bytes=512)

Samples = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def clock() -> ManualClock:
    """A clock at 1000 s."""
    return ManualClock(1000.0)


@pytest.fixture
def changes() -> Changes:
    """What happened to the models."""
    return Changes()


@pytest.fixture
def registry(changes: Changes) -> Registry:
    """A registry in which "momentum" is required."""
    return Registry({"momentum"}, changes)


@pytest.fixture
def drain() -> Drain:
    """Whether the sidecar is stopping."""
    return Drain()


@pytest.fixture
def scrape(registry: Registry, changes: Changes, drain: Drain, clock: ManualClock) -> Callable[[], Samples]:
    """Return all samples by name and by the labels' values, as a scraper reads them."""
    collectors = CollectorRegistry()
    collectors.register(ServedCollector(registry, changes, drain, clock, lambda _: (0, 1)))

    def read() -> Samples:
        text = generate_latest(collectors).decode()
        families = list(text_string_to_metric_families(text))
        assert len({family.name for family in families}) == len(families)
        samples: Samples = {family.name: {} for family in families}
        for sample in (sample for family in families for sample in family.samples):
            assert sample.name.startswith("tickserve_")
            by_labels = samples.setdefault(sample.name, {})
            assert tuple(sample.labels.values()) not in by_labels
            by_labels[tuple(sample.labels.values())] = sample.value
        return samples

    return read


def info(scrape: Callable[[], Samples]) -> list[dict[str, str]]:
    """Return the names and values of the labels of every version."""
    names = ("contract_hash", "digest", "model", "state", "version", "vetting")  # as they are written: sorted
    return [dict(zip(names, labels, strict=True)) for labels in scrape()["tickserve_version_info"]]


def test_what_a_served_version_says(registry: Registry, scrape: Callable[[], Samples]) -> None:
    """F5: digest, contract, vetting, times, memory and rows of each version that is served."""
    registry.publish(FunctionServable(version=3, digest="a" * 64), 970 * S, VETTED)
    registry.publish(FunctionServable("plain", 1, contract=None, digest="b" * 64), 980 * S, PLAIN)
    registry.resolve("momentum").rows_answered = 17
    first, second = info(scrape)
    assert first == {
        "model": "momentum",
        "version": "3",
        "state": "AVAILABLE",
        "digest": "a" * 64,
        "contract_hash": CONTRACT.hash,
        "vetting": "verified",
    }
    assert (second["contract_hash"], second["vetting"], second["digest"]) == ("", "unverified", "b" * 64)
    samples = scrape()
    assert set(samples["tickserve_version_info"].values()) == {1.0}
    three, one = ("momentum", "3"), ("plain", "1")
    assert samples["tickserve_version_vetted_timestamp_seconds"] == {three: 900.0, one: 950.0}
    assert samples["tickserve_version_available_since_timestamp_seconds"] == {three: 970.0, one: 980.0}
    assert samples["tickserve_version_memory_bytes"] == {three: 4096.0, one: 512.0}
    assert samples["tickserve_version_rows_answered_total"] == {three: 17.0, one: 0.0}
    assert samples["tickserve_version_rows_answered_created"] == {three: 970.0, one: 980.0}
    assert samples["tickserve_model_default_version"] == {("momentum",): 3.0, ("plain",): 1.0}
    assert samples["tickserve_model_ready"] == {("momentum",): 1.0, ("plain",): 1.0}


@pytest.mark.parametrize("state", [state for state in State if state is not State.AVAILABLE])
def test_what_is_not_served_is_shown_without_numbers(
    registry: Registry, scrape: Callable[[], Samples], state: State
) -> None:
    """A5: a version on its way in or out, or refused, has its state and digest, and no made-up number."""
    registry.set_status(VersionStatus(ServableId("momentum", 4), state, "why", "c" * 64))
    (version,) = info(scrape)
    assert (version["state"], version["digest"], version["vetting"]) == (state.value, "c" * 64, "none")
    samples = scrape()
    assert samples["tickserve_version_rows_answered"] == {}
    for name in ("vetted_timestamp_seconds", "available_since_timestamp_seconds", "memory_bytes"):
        assert samples[f"tickserve_version_{name}"] == {}
    assert samples["tickserve_model_ready"] == {("momentum",): 0.0}
    assert samples["tickserve_model_default_version"] == {("momentum",): 0.0}


def test_how_long_a_model_has_been_behind(
    registry: Registry, scrape: Callable[[], Samples], clock: ManualClock
) -> None:
    """C7: desired is not served: a gauge with an age, which grows, is never negative, and ends."""
    key = ("momentum",)

    def behind() -> tuple[float, float]:
        samples = scrape()
        assert samples["tickserve_model_problem"][key] == samples["tickserve_model_behind"][key]
        return samples["tickserve_model_behind"][key], samples["tickserve_model_behind_seconds"][key]

    registry.publish(FunctionServable(), S, VETTED)
    assert behind() == (0.0, 0.0)
    registry.set_standing("momentum", Standing(problem="refused", behind_since_ns=clock.wall_ns()))
    assert behind() == (1.0, 0.0)
    clock.advance(90.5)
    assert behind() == (1.0, 90.5)
    clock.advance(-3600)
    assert behind() == (1.0, 0.0)
    registry.set_standing("momentum", Standing())
    assert behind() == (0.0, 0.0)


def test_ready_is_what_the_probe_says(
    registry: Registry, scrape: Callable[[], Samples], drain: Drain
) -> None:
    """F1: ready with the required model and not with another alone, and not while draining."""

    def ready() -> float:
        return scrape()["tickserve_ready"][()]

    assert ready() == 0.0
    registry.publish(FunctionServable("other"), S, PLAIN)
    assert ready() == 0.0
    registry.publish(FunctionServable(), S, VETTED)
    assert ready() == 1.0
    drain.begin()
    assert ready() == 0.0


def test_a_model_that_is_pinned_shows_what_callers_get(
    registry: Registry, scrape: Callable[[], Samples]
) -> None:
    """A7: after a rollback the default is the smaller version, and both versions are there."""
    for version in (1, 2):
        registry.publish(FunctionServable(version=version), S, VETTED)
    registry.set_standing("momentum", Standing(default_version=1, pinned_version=1))
    assert scrape()["tickserve_model_default_version"] == {("momentum",): 1.0}
    assert [version["version"] for version in info(scrape)] == ["2", "1"]


def test_nothing_is_left_of_what_is_gone(registry: Registry, scrape: Callable[[], Samples]) -> None:
    """B3: series end with what they are of, so a thousand swaps leave one version's series."""
    for number in range(1000):
        registry.publish(FunctionServable(digest=f"{number:064x}"), S, VETTED)
    assert len(scrape()["tickserve_version_info"]) == 1
    asyncio.run(registry.retire(ServableId("momentum", 1)).drain())
    registry.forget(ServableId("momentum", 1))
    samples = scrape()
    assert all(not series for name, series in samples.items() if name.startswith("tickserve_version_"))
    assert set(samples["tickserve_versions"].values()) == {0.0}
    assert samples["tickserve_model_ready"] == {("momentum",): 0.0}


def test_names_from_the_folder_stay_one_label(registry: Registry, scrape: Callable[[], Samples]) -> None:
    """D13: a file's name that no model can have, with quotes and line ends, is one label's value."""
    name = repr('a"} 1\n\\x{\udcff') + "\n\\"
    registry.set_standing(name, Standing(problem="no model's name"))
    assert scrape()["tickserve_model_ready"] == {("momentum",): 0.0, (name,): 0.0}


def test_calls_get_their_turn_within_a_scrape(
    registry: Registry, changes: Changes, drain: Drain, clock: ManualClock
) -> None:
    """B2: the loop is free again after each family of a scrape; the whole text is still one."""
    registry.publish(FunctionServable(), S, VETTED)
    (route,) = metrics([ServedCollector(registry, changes, drain, clock, lambda _: (0, 1))])
    request = make_mocked_request("GET", "/metrics", {"Accept": "application/openmetrics-text"})

    async def scrape_and_count() -> tuple[web.Response, int]:
        scraping = asyncio.create_task(route.handler(request))
        turns = 0
        while not scraping.done():
            await asyncio.sleep(0)
            turns += 1
        return scraping.result(), turns

    response, turns = asyncio.run(scrape_and_count())
    families = list(openmetrics_families(response.body.decode()))
    assert len(families) > 10
    assert turns >= len(families)
