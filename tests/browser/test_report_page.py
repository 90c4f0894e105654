"""The report in a real browser: drawn, zoomed, narrowed down, at desktop and phone width."""

import json
import shutil
from datetime import timedelta
from typing import Any

import pytest
from recorded_session import answered, market, no_signal, signal, write_session

from strategy_client.events import Reason
from strategy_client.report.document import write_report
from strategy_client.report.recorded_folder import read_recording

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 375, "height": 812}
HOSTILE = "<img src=x onerror=window.hacked=1>"
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Two instruments; a learned strategy whose model is replaced and that once had no answer; its shadow."""
    ticks = [*market(200, token=5), *market(40, token=6)]
    came = []
    shadows = []
    for index, tick in enumerate(ticks):
        version = 1 if index < 100 else 2
        probability = 0.5 + (index % 10) / 25
        if index == 150:
            learned = no_signal("learned", tick, Reason.DEADLINE_EXCEEDED)
        elif probability > 0.6:
            learned = signal("learned", tick, "BUY", **answered(version, probability))
        else:
            learned = no_signal("learned", tick, Reason.BELOW_THRESHOLD, **answered(version, probability))
        came.append((tick, [learned, no_signal(HOSTILE, tick, Reason.HOLD)]))
        shadows.append(
            {
                "tick": index,
                "strategy_id": "learned",
                "live": {"outcome": "HOLD", "probability": probability},
                "shadow": {"outcome": "BUY" if index % 2 else "HOLD", "probability": 1 - probability},
            }
        )
    folder = write_session(
        tmp_path_factory.mktemp("report"),
        came,
        latency_ns=[int(timedelta(milliseconds=1 + n % 7).total_seconds() * 1e9) for n in range(240)],
        summary={"deadline_ms": 50.0},
    )
    lines = "".join(json.dumps(each) + "\n" for each in shadows)
    (folder / "shadows.jsonl").write_text(lines, encoding="utf-8")
    write_report(read_recording(folder), folder / "report.html", "A session")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    """One browser for all."""
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def opened(browser, page_file, request):
    """The page, open; it asked for nothing but itself and said nothing in the console."""
    size = getattr(request, "param", DESKTOP)
    page = browser.new_page(viewport=size, color_scheme="dark" if size is PHONE else "light")
    said: list[str] = []
    asked: list[str] = []
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda made: asked.append(made.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-drawn=yes]")
    yield page
    page.close()
    assert said == []
    assert asked == [page_file.as_uri()]


def shown(page: Any, chart: str) -> list[str]:
    """Return the names of what a chart draws."""
    return page.evaluate(f"document.getElementById('{chart}').data.map((trace) => trace.name)")


def spans(page: Any) -> set[str]:
    """Return what the charts that are shown reach over."""
    script = """
        SYNCED.map((id) => document.getElementById(id)).filter((box) => !box.closest('[hidden]'))
            .map((box) => JSON.stringify(box.layout.xaxis.range.map((end) => +new Date(end))))
    """
    return set(page.evaluate(script))


@pytest.mark.parametrize("opened", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
def test_a_person_sees_the_session_at_once(opened):
    """The verdict names what failed, each chart is drawn, and nothing is wider than the screen."""
    assert "some ticks went without an answer" in opened.locator("#verdict h2").inner_text()
    assert "DEADLINE_EXCEEDED, 1 times" in opened.locator("#verdict li").inner_text()
    for chart in ("price", "versions", "probability", "outcomes", "latency", "shadow"):
        assert opened.locator(f"#{chart} .main-svg").first.is_visible()
    assert shown(opened, "versions") == [
        "learned: momentum v1 aaaaaaaaaaaa",
        "learned: momentum v2 bbbbbbbbbbbb",
    ]
    assert "deadline 50 ms" in shown(opened, "latency")
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_name_of_a_users_is_text(opened):
    """A strategy called like a tag is shown as it is called, and runs nothing."""
    assert HOSTILE in opened.locator("#tables").inner_text()
    opened.select_option("#strategy", HOSTILE)
    assert opened.evaluate("window.hacked === undefined")
    assert opened.locator("img").count() == 0


def test_all_charts_look_at_the_same_time(opened):
    """Dragging across one moves all of them; two clicks go back to the whole session."""
    before = spans(opened)
    assert len(before) == 1
    opened.locator("#probability").scroll_into_view_if_needed()
    box = opened.locator("#probability .nsewdrag").first.bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=5)
    opened.mouse.up()
    opened.wait_for_function("range !== null && !moving")
    assert len(spans(opened)) == 1
    assert spans(opened) != before
    opened.mouse.dblclick(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)
    opened.wait_for_function("range === null && !moving")
    assert spans(opened) == before


def test_a_strategy_and_an_instrument_can_be_looked_at_alone(opened):
    """What is chosen is drawn, and the counts beside it are its own."""
    opened.select_option("#strategy", "learned")
    assert (
        opened.locator("#outcomes-note").inner_text() == "BUY 140 · BELOW_THRESHOLD 59 · DEADLINE_EXCEEDED 1"
    )
    opened.select_option("#instrument", "1")
    assert opened.evaluate("document.getElementById('price').data[0].y.length") == 40
    assert opened.locator("#strategy").input_value() == ""
    assert "HOLD 40" in opened.locator("#outcomes-note").inner_text()


def test_ticks_can_stand_by_number(opened):
    """Across the number of the tick, a night between two ticks takes no room."""
    opened.check("input[value=n]")
    assert opened.evaluate("document.getElementById('price').layout.xaxis.type") == "linear"
    assert opened.evaluate("document.getElementById('price').layout.xaxis.range") == [0, 199]
