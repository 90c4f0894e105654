"""What the status page tells as having happened."""

from collections.abc import Callable

import pytest

from inference_server.core.servable import ModelStatus, ServableId, State, VersionStatus
from inference_server.http.page_journal import MAX_EVENTS, MAX_TEXT, Journal, Kind, Problem, clipped

S = 10**9
Look = Callable[..., None]


def model(version: int = 0, digest: str = "", problem: str = "", behind_s: int = 0, **more) -> ModelStatus:
    """Return a model of which one version answers; 0: none."""
    versions = ()
    if version:
        id_ = ServableId("momentum", version)
        versions = (VersionStatus(id_, State.AVAILABLE, digest=digest, available_since_ns=version * S),)
    return ModelStatus(
        "momentum", versions, default_version=version, problem=problem, behind_since_ns=behind_s * S, **more
    )


@pytest.fixture
def journal() -> Journal:
    """A journal that has seen nothing."""
    return Journal()


@pytest.fixture
def look(journal: Journal) -> Look:
    """Let the journal see these models at a time."""

    def see(now_s: int, *models: ModelStatus, ready: bool = True) -> None:
        journal.look(models, ready=ready, now_ns=now_s * S)

    return see


def told(journal: Journal) -> list[tuple[int, Kind, int, str]]:
    """Return time, kind, version and text of each event, the newest first."""
    return [(event.at_ns // S, event.kind, event.version, event.text) for event in journal.events]


def test_a_start_a_swap_and_an_end(journal: Journal, look: Look) -> None:
    """A4: what answers is told with its time, digest and version, and when it is gone."""
    look(1, model(), ready=False)
    look(5, model(3, "aa"))
    look(9, model(8, "bb"))
    look(9, model(8, "bb"))
    look(12)
    assert told(journal) == [
        (12, Kind.SILENT, 0, "it is gone"),
        (8, Kind.ANSWERS, 8, ""),
        (5, Kind.READY, 0, ""),
        (3, Kind.ANSWERS, 3, ""),
    ]
    assert journal.events[1].digest == "bb"


def test_other_bytes_of_one_version_are_a_swap(journal: Journal, look: Look) -> None:
    """A4: a file that is replaced in place is told, though the version's number stays."""
    look(5, model(1, "aa"))
    look(9, model(1, "bb"))
    assert [event.digest for event in journal.events if event.kind is Kind.ANSWERS] == ["bb", "aa"]


def test_going_back_happens_now(journal: Journal, look: Look) -> None:
    """A7: a smaller version that answered all the time is told as of the time when it became the default."""
    look(8, model(8, "bb"))
    look(20, model(3, "aa"))
    assert told(journal)[0] == (20, Kind.ANSWERS, 3, "")


def test_a_refusal_is_told_with_its_reason_and_its_end(journal: Journal, look: Look) -> None:
    """A5, A6: what stands in a model's way is told, and when it is over; the last one stays known."""
    look(5, model(3, "aa"))
    assert journal.last_problem("momentum") is None
    look(9, model(3, "aa", problem="version 4: refused: it lies", behind_s=7))
    assert journal.last_problem("momentum") == Problem("version 4: refused: it lies", 7 * S)
    look(15, model(3, "aa"))
    assert journal.last_problem("momentum") == Problem("version 4: refused: it lies", 7 * S, 15 * S)
    assert told(journal)[:2] == [
        (15, Kind.MENDED, 0, "version 4: refused: it lies"),
        (9, Kind.PROBLEM, 0, "version 4: refused: it lies"),
    ]
    look(16)
    assert journal.last_problem("momentum") is None


def test_a_model_that_stops_answering_says_why(journal: Journal, look: Look) -> None:
    """A16: the versions' reasons are told when nothing of a model answers any more."""
    look(5, model(3, "aa"))
    status = VersionStatus(ServableId("momentum", 3), State.END, "not loaded; control is explicit")
    look(9, ModelStatus("momentum", (status,)), ready=False)
    assert told(journal)[:2] == [
        (9, Kind.NOT_READY, 0, ""),
        (9, Kind.SILENT, 0, "not loaded; control is explicit"),
    ]


def test_what_is_kept_is_bounded(journal: Journal, look: Look) -> None:
    """The last events are kept, and of a text what anyone would read."""
    for second in range(1, 3 * MAX_EVENTS):
        look(second, model(1, "aa", problem=f"{second}" + "x" * 5 * MAX_TEXT))
    assert len(journal.events) == MAX_EVENTS
    newest = journal.events[0].text
    assert newest.startswith(f"{3 * MAX_EVENTS - 1}x")
    assert len(newest) == MAX_TEXT + 2
    assert clipped("short") == "short"
