"""The report in a real browser: drawn, zoomed, narrowed down, at desktop and phone width."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from recorded_session import answered, market, no_signal, signal, write_session

from strategy_client.events import MarketTick, Outcome, Reason
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
PATIENCE_MS = 60_000


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
def page_of(browser, tmp_path):
    """Draw a session and open its page."""
    opened_pages = []

    def draw(came: list[tuple[MarketTick, list[Outcome]]], size: Any = DESKTOP) -> Any:
        folder = write_session(tmp_path, came)
        write_report(read_recording(folder), folder / "report.html", "A session")
        page = browser.new_page(viewport=size)
        opened_pages.append(page)
        page.set_default_timeout(PATIENCE_MS)
        page.goto((folder / "report.html").as_uri())
        page.wait_for_selector("html[data-drawn=yes]")
        return page

    yield draw
    for page in opened_pages:
        page.close()


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


def test_several_strategies_have_lanes_and_one_stands_on_the_price(page_of):
    """Marks of several strategies hide neither the price nor each other; one's stand where it traded."""
    page = page_of(
        [
            (tick, [signal("a", tick, "BUY" if n % 2 else "SELL"), signal("b", tick, "BUY")])
            for n, tick in enumerate(market(20))
        ]
    )
    marks = "document.getElementById('price').data.slice(1).map((trace) => [trace.yaxis, trace.y[0]])"
    assert {axis for axis, _ in page.evaluate(marks)} == {"y2"}
    assert len({y for _, y in page.evaluate(marks)}) == 3
    page.select_option("#strategy", "b")
    assert page.evaluate(marks) == [["y", 100]]


def test_one_tick_that_failed_is_seen(page_of):
    """One outcome of thousands is no part of a bar that anybody sees, so it has a mark that names it."""
    page = page_of(
        [
            (tick, [no_signal("s", tick, Reason.UNAVAILABLE if n == 1_234 else Reason.HOLD)])
            for n, tick in enumerate(market(5_000))
        ]
    )
    [mark] = page.evaluate(
        "document.getElementById('outcomes').data.filter((trace) => trace.name === 'without an answer')"
    )
    assert mark["text"] == ["UNAVAILABLE: 1"]


def test_nothing_is_drawn_over_a_silence(page_of):
    """Where no tick came each chart is blank and says so; by number of the tick there is no such place."""
    ticks = market(400)
    quiet = [*ticks[:200], *(replace(each, timestamp=each.timestamp + timedelta(60)) for each in ticks[200:])]
    page = page_of([(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in quiet])
    blank = """
        ['price', 'outcomes', 'latency'].map((id) => document.getElementById(id).layout.shapes
            .filter((shape) => shape.type === 'rect').map((shape) => [shape.x0, shape.x1, shape.label.text]))
    """
    ends = [quiet[at].timestamp.timestamp() * 1_000 for at in (199, 200)]
    assert page.evaluate(blank) == [[[*ends, "no tick"]]] * 3
    page.check("input[value=n]")
    assert page.evaluate(blank) == [[]] * 3


def test_nothing_between_two_ticks_is_made_up(opened):
    """The price stays as it was until the next tick, and a model says nothing between two answers."""
    assert opened.evaluate("document.getElementById('price').data[0].line.shape") == "hv"
    for chart in ("probability", "shadow"):
        modes = opened.evaluate(f"document.getElementById('{chart}').data.map((trace) => trace.mode)")
        assert set(modes) == {"markers"}


def test_where_a_shadow_wanted_otherwise_is_circled(opened):
    """The ticks on which live and shadow differ are marked, counted, and each names what both wanted."""
    assert "on 100 of 200 ticks they wanted otherwise" in opened.locator("#shadow-note").inner_text()
    assert "learned: wanted otherwise" in shown(opened, "shadow")
    told = opened.evaluate("document.getElementById('shadow').data[2].text[0]")
    assert told == "live HOLD, shadow BUY"


def test_a_phone_shows_each_reason_and_the_chart(page_of):
    """However many reasons there are, a phone has all their names in sight, and bars of some height."""
    reasons = list(Reason)
    page = page_of(
        [(tick, [no_signal("s", tick, reasons[n % len(reasons)])]) for n, tick in enumerate(market(100))],
        PHONE,
    )
    assert page.locator("#outcomes .legend .traces").count() == len(reasons) + 2
    assert page.evaluate("document.querySelector('#outcomes .legend .scrollbar').getBBox().height") == 0
    assert page.evaluate("document.querySelector('#outcomes .nsewdrag').getBBox().height") > 120


def test_keys_look_closer_and_go_along(opened):
    """Who has no mouse looks closer, goes along and back by buttons, in all charts at once."""

    def press(words: str) -> tuple[float, float]:
        opened.get_by_role("button", name=words).press("Enter")
        opened.wait_for_function("!moving")
        [span] = spans(opened)
        begin, end = json.loads(span)
        return begin, end

    begin, end = json.loads(spans(opened).pop())
    width = end - begin
    assert press("closer") == (begin + width / 4, end - width / 4)
    assert press("earlier") == (begin, begin + width / 2)
    assert press("earlier") == (begin, begin + width / 2)
    assert press("later") == (begin + width / 4, end - width / 4)
    assert press("wider") == (begin, end)
    press("closer")
    assert press("whole session") == (begin, end)


def test_a_tick_of_the_past_leaves_the_others_in_sight(page_of):
    """H6: the session is drawn from its earliest tick to its latest one, in whatever order they came."""
    ticks = market(10)
    came = [*ticks[3:], ticks[0]]
    page = page_of([(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in came])
    begin, end = page.evaluate(
        "document.getElementById('price').layout.xaxis.range.map((end) => +new Date(end))"
    )
    assert (begin, end) == (ticks[0].timestamp.timestamp() * 1_000, ticks[-1].timestamp.timestamp() * 1_000)


def test_a_price_is_shown_with_all_its_digits(page_of):
    """Along the axis a price of 61,850 is not 61.85k."""
    ticks = [replace(tick, last_price=tick.last_price * 50 + 60_000) for tick in market(30)]
    page = page_of([(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in ticks])
    labels = page.locator("#price .ytick").all_text_contents()
    assert "65,500" in labels
    assert not [label for label in labels if "k" in label]


def test_a_finger_scrolls_over_a_chart(browser, page_file):
    """On a touch screen a chart does not hold the page, and nobody is told to drag."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-drawn=yes]")
    assert page.evaluate("document.getElementById('price').layout.dragmode") is False
    assert page.locator("#drag-note").is_hidden()
    context.close()


CONTRAST = """
() => {
    const light = (text) => {
        const parts = text.replace('#', '').match(/../g).map((pair) => parseInt(pair, 16) / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const full = (text) => (text.length > 4 ? text : text.replace(/[^#]/g, (each) => each + each));
    const paper = light(full(colour('paper')));
    const against = (name) => {
        const [less, more] = [light(full(name)), paper].sort((one, other) => one - other);
        return (more + 0.05) / (less + 0.05);
    };
    const lines = LINES.map((_, at) => line(at));
    const failures = darkness.matches ? session.failures.map(reasonColour) : [];
    const words = ['good', 'warn', 'bad', 'quiet', 'ink'].map(colour);
    return [...lines, ...failures, ...words].map((each) => [each, against(each)]);
}
"""


@pytest.mark.parametrize("opened", [DESKTOP, PHONE], indirect=True, ids=["light", "dark"])
def test_what_is_drawn_stands_out_from_its_paper(opened):
    """Lines, marks and, in the dark, each failure have three times the contrast that is none, or more."""
    faint = [(each, ratio) for each, ratio in opened.evaluate(CONTRAST) if ratio < 3]
    assert faint == []
