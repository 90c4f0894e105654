"""What `status` and `rollback` show on a terminal of 80 columns."""

import io
from typing import Any

import pytest
from open_inference.v2 import inference_pb2 as oip
from rich.console import Console, RenderableType
from tickserve.v1 import control_pb2 as orders
from tickserve.v1 import predictor_pb2 as wire

from inference_server.report import rollback_view, status_json, status_view

SECOND_NS = 10**9
NOW_NS = 1_795_345_200 * SECOND_NS  # 2026-11-22 11:00:00 UTC
STATES = wire.VersionDescription


def shown(view: RenderableType) -> list[str]:
    """The lines on 80 columns, without the blanks at their ends."""
    stream = io.StringIO()
    Console(file=stream, width=80, markup=False, highlight=False).print(view)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    return lines


def available(number: int, **fields: Any) -> wire.VersionDescription:
    """A version that answers and was vetted a minute before."""
    known = {
        "state": STATES.AVAILABLE,
        "digest": f"{number:x}" * 64,
        "contract": wire.Contract(hash="ab" * 32),
        "available_since_ns": NOW_NS - 59 * SECOND_NS,
        "vetted_at_ns": NOW_NS - 60 * SECOND_NS,
        "verified": True,
        "vetting": "3 golden rows answered",
        "memory_bytes": 1_572_864,
        "rows_answered": 12,
    }
    return wire.VersionDescription(version=number, **(known | fields))


def status_of(*versions: wire.VersionDescription, **fields: Any) -> list[str]:
    """The status of one model with these versions."""
    model = wire.ModelDescription(name="momentum", versions=versions, default_version=3, **fields)
    return shown(status_view(wire.DescribeModelsResponse(ready=True, models=[model]), "unix:/s", NOW_NS))


def notes(lines: list[str]) -> list[str]:
    """The lines of the notes: between the first blank line and the next."""
    first = lines.index("")
    rest = lines[first + 1 :]
    return [line.split(maxsplit=1)[1] for line in rest[: rest.index("")]]


def test_a_good_model_is_two_rows() -> None:
    """What is served stands in one row, and what proves it, when it was vetted and its memory in another."""
    assert status_of(available(3)) == [
        "unix:/s: ready",
        "model    version state     digest       contract     since (UTC)",
        "momentum 3 *     AVAILABLE 333333333333 abababababab 11-22 10:59:01",
        "",
        "vetted     at (UTC)        memory found",
        "momentum:3 11-22 10:59:00 1.5 MiB 3 golden rows answered",
    ]


@pytest.mark.parametrize(
    ("age_s", "told"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (90_061, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_what_is_behind_says_for_how_long(age_s: int, told: str) -> None:
    """A refused file shows since when it is not served, also where the clock of the sidecar is ahead."""
    since_ns = NOW_NS - age_s * SECOND_NS
    lines = status_of(available(3), problem="version 4: refused: cut off", behind_since_ns=since_ns)
    assert notes(lines) == [f"behind for {told}: version 4: refused: cut off"]


def test_what_is_on_its_way_is_no_problem_yet() -> None:
    """While a new version is vetted and loaded, its age is shown and no reason is made up."""
    loading = wire.VersionDescription(version=4, state=STATES.LOADING)
    lines = status_of(loading, available(3), behind_since_ns=NOW_NS - 4 * SECOND_NS)
    assert notes(lines) == ["behind for 4 s: on its way"]
    assert not any(line.startswith("momentum:4") for line in lines)


def test_a_pin_and_labels_are_shown() -> None:
    """A rolled back model says to which version it is pinned; labels stand in the order of their names."""
    held = wire.VersionDescription(version=4, state=STATES.END, reason="held since a rollback")
    lines = status_of(
        *(held, available(3), available(2)),
        problem="version 4 (444444444444): held since a rollback",
        pinned_version=3,
        labels={"stable": 3, "canary": 2, "next": 4},
    )
    assert notes(lines) == [
        "version 4 (444444444444): held since a rollback",
        "pinned to 3 by a rollback",
        "labels: canary 2, next 4 (not available), stable 3",
    ]


def test_a_version_that_was_not_vetted_has_no_proof() -> None:
    """Nothing is shown as vetted that was not, and a model without a contract is unverified."""
    lines = status_of(available(3, vetted_at_ns=0, contract=None))
    assert lines[-1] == "momentum 3 *     AVAILABLE 333333333333 unverified 11-22 10:59:01"


def test_only_a_refused_version_is_red() -> None:
    """What is held or not asked for is no fault of its file, and does not look like one."""
    coloured = [
        (refused, Console(color_system="standard", force_terminal=True, file=io.StringIO(), width=80))
        for refused in (True, False)
    ]
    for refused, console in coloured:
        version = wire.VersionDescription(version=4, state=STATES.END, reason="no", refused=refused)
        model = wire.ModelDescription(name="momentum", versions=[version])
        console.print(status_view(wire.DescribeModelsResponse(models=[model]), "unix:/s", NOW_NS))
        assert console.file.getvalue().count("\x1b[31m") == (2 if refused else 0)


def test_a_long_name_and_a_long_text_fit() -> None:
    """Names and texts fold where 80 columns do not hold them, and nothing of them is lost."""
    text = "golden row 1, output score: expected 0.0, came 0.01; " * 4
    model = wire.ModelDescription(name="z" * 128, versions=[available(3, vetting=text)], problem=text)
    lines = shown(status_view(wire.DescribeModelsResponse(models=[model]), "unix:/s", NOW_NS))
    assert lines[0] == "unix:/s: NOT READY"
    assert "".join(lines).count("z") == 3 * 128
    folded = " ".join("".join(f"{line} " for line in lines).replace("z", "").replace(":3", "").split())
    assert folded.count("came 0.01;") == 8


def test_json_has_everything() -> None:
    """The JSON form has each field of the .proto files, set or not, statistics among them."""
    model = wire.ModelDescription(name="momentum", versions=[available(3)], labels={"stable": 3})
    statistics = oip.ModelStatisticsResponse(model_stats=[oip.ModelStatistics(name="momentum", version="3")])
    shown_all = status_json(wire.DescribeModelsResponse(models=[model]), statistics)
    assert (shown_all["ready"], shown_all["model_stats"][0]["version"]) == (False, "3")
    (shown_model,) = shown_all["models"]
    assert set(shown_model) == {field.name for field in wire.ModelDescription.DESCRIPTOR.fields}
    assert set(shown_model["versions"][0]) == {field.name for field in STATES.DESCRIPTOR.fields}
    assert shown_model["labels"] == {"stable": "3"}
    assert shown_model["versions"][0]["memory_bytes"] == "1572864"


def test_a_rollback_says_what_it_did_and_what_takes_it_back() -> None:
    """Both versions, both digests, the labels that moved, and the command that undoes it."""
    done = orders.RollbackResponse(
        from_version=4, from_digest="d" * 64, to_version=3, to_digest="c" * 64, moved_labels=["stable"]
    )
    lines = shown(rollback_view("momentum", done))
    assert lines[:2] == [
        "momentum: back from version 4 (dddddddddddd) to version 3 (cccccccccccc)",
        "moved with it: stable",
    ]
    assert "'inference-server resume momentum' takes it up again." in " ".join(lines[2:])
