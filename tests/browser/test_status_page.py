"""The status page in a real browser, on a real sidecar that is asked and whose files change."""

import contextlib
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from onnx import TensorProto, helper
from onnx_files import make_model, score_model
from servables import FunctionServable
from sidecars import ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.http.page_options import PageOptions
from inference_server.rpc.address import Address
from inference_server.serving.registry import Registry

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

HTTP = Address(host="127.0.0.1")
QUICK = PageOptions(step_s=0.25)
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 375, "height": 812}
SCRIPT = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
PATIENCE_MS = 60_000


class Opened:
    """The page, open in a browser; at its end nothing was said in the console and nothing was violated."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.said: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective));"
        )
        page.goto(url)
        page.wait_for_selector("html[data-link=live]")

    def row(self, model: str) -> Any:
        """Return the rows of one model."""
        return self.page.locator(f"tbody:has(#model-{model})")

    def see(self, locator: Any, text: str) -> None:
        """Wait until this holds the text."""
        playwright.expect(locator).to_contain_text(text, timeout=PATIENCE_MS)

    def come_true(self, expression: str) -> None:
        """Wait until this is true in the page; its policy forbids the library's own waiting."""
        eventually(lambda: self.page.evaluate(expression), expression)

    def check(self) -> None:
        """Fail where the console says anything, a policy was violated, or it must be scrolled sidewards."""
        assert self.said == []
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert self.page.evaluate("window.hacked") is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests here."""
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@contextlib.contextmanager
def opened(browser: Any, sidecar: ThreadSidecar, path: str = "", **more: Any) -> Iterator[Opened]:
    """Open the page of a sidecar in a window of its own."""
    context = browser.new_context(**({"viewport": DESKTOP} | more))
    with contextlib.closing(context):
        yield Opened(context.new_page(), f"http://127.0.0.1:{sidecar.sidecar.http_port}/{path}")


@contextlib.contextmanager
def traffic(sidecar: ThreadSidecar, *models: str, features: int = 3) -> Iterator[None]:
    """Ask these models again and again until the block ends."""
    parts = [wire.PredictPart(model=it, rows=1, features=b"\0\0\x80?" * features) for it in models]
    stop = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(sidecar.unix) as channel:
            predict = stub(channel, "Predict", wire.PredictResponse)
            while not stop.wait(0.01):
                predict(wire.PredictRequest(parts=parts), timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


def hostile_model() -> bytes:
    """Return a file that is refused for an operator whose name is markup."""
    graph = helper.make_graph(
        [helper.make_node(SCRIPT + "x" * 300, ["features"], ["score"], domain=SCRIPT)],
        "hostile",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
    )
    return make_model(graph).SerializeToString()


def test_the_page_shows_what_is_served_under_traffic(browser: Any, tmp_path: Path) -> None:
    """F5: readiness, version, digest, rates and latency are shown; a swap and a refusal without a reload."""
    put(tmp_path / "momentum" / "1" / "model.onnx", score_model())
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar,
        opened(browser, sidecar) as desk,
        opened(browser, sidecar, viewport=PHONE) as phone,
    ):
        both = (desk, phone)

        def see(text: str) -> None:
            for it in both:
                it.see(it.row("momentum"), text)

        def digest() -> str:
            return sidecar.sidecar.registry.resolve("momentum").servable.digest

        desk.see(desk.page.locator("#verdict"), "Ready")
        see("Answers")
        see(f"version 1 {digest()[:12]}")
        with traffic(sidecar, "momentum"):
            for it in both:
                it.come_true("Number(document.getElementById('answered-now').textContent) > 1")
                it.come_true("document.getElementById('p99-now').textContent.endsWith('s')")
                it.come_true("document.querySelector('#answered-chart .line').getAttribute('d').length > 9")
                it.page.evaluate("window.notReloaded = true")
        put(tmp_path / "momentum" / "2" / "model.onnx", score_model(bias=1.0))
        sidecar.settle()
        see(f"version 2 {digest()[:12]}")
        put(tmp_path / "momentum" / "3" / "model.onnx", score_model(n_features=2))
        sidecar.settle()
        see("New file refused")
        see("it names 3 features, the file takes features: FP32[?, 2]")
        for it in both:
            it.see(it.page.locator("#verdict"), "Ready, with problems")
            it.see(it.page.locator("#events"), "version 3: refused")
            assert "Ready, with problems" in it.page.title()
        put(tmp_path / "momentum" / "3" / "model.onnx", score_model(bias=3.0))
        sidecar.settle()
        see("version 3")
        see("Over since")
        for it in both:
            assert it.page.evaluate("window.notReloaded")
            it.check()


def test_calls_that_fail_are_shown_by_reason(browser: Any, tmp_path: Path) -> None:
    """E6: what was not answered, how often and why, stands on the page, of all and of the model."""
    put(tmp_path / "momentum.onnx", score_model())
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar, opened(browser, sidecar) as it:
        with traffic(sidecar, "momentum", "nobody", features=2):
            it.see(it.page.locator("#failures"), "model_not_found")
            it.see(it.page.locator("#failures"), "named no model that is known here")
            it.see(it.row("momentum").locator(".failed-now"), "not answered")
        it.page.get_by_role("button", name="momentum", exact=True).click()
        it.see(it.row("momentum").locator(".details"), "INVALID_ARGUMENT")
        it.check()


def test_not_ready_and_stopping_are_shown(browser: Any, tmp_path: Path) -> None:
    """F1: the page names the required model that is missing, turns ready with it, and says when it stops."""
    put(tmp_path / "one.onnx", score_model("one"))
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK, required=("other",)) as sidecar,
        opened(browser, sidecar, color_scheme="dark") as it,
    ):
        verdict = it.page.locator("#verdict")
        it.see(verdict, "Not ready")
        it.see(verdict, "Required and not answering: other")
        it.see(it.row("other"), "Not answering")
        it.see(it.row("other"), "required, but not found yet")
        put(tmp_path / "other.onnx", score_model("other"))
        sidecar.settle()
        it.see(verdict, "2 of 2 models answer")
        sidecar.sidecar.drain.begin()
        it.see(verdict, "Stopping")
        it.check()


def test_no_models_says_what_to_do(browser: Any, tmp_path: Path) -> None:
    """A1: an empty repository is not ready, and the page says where a file goes; then it shows it."""
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar,
        opened(browser, sidecar, viewport=PHONE) as it,
    ):
        it.see(it.page.locator("#none"), "Put a file NAME.onnx")
        put(tmp_path / "momentum.onnx", score_model())
        sidecar.settle()
        it.see(it.row("momentum"), "Answers")
        playwright.expect(it.page.locator("#none")).to_be_hidden()
        it.check()


def test_a_lost_connection_is_shown_and_comes_back(browser: Any, tmp_path: Path) -> None:
    """E9: a sidecar that stops is told with the time of its last word; started again, the page goes on."""
    put(tmp_path / "momentum.onnx", score_model())
    with contextlib.ExitStack() as stack:
        with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
            port = sidecar.sidecar.http_port
            it = stack.enter_context(opened(browser, sidecar))
            it.see(it.row("momentum"), "Answers")
        page = it.page
        page.wait_for_selector("html[data-link=lost]")
        it.see(page.locator("#lost"), "Connection lost. The last answer came at ")
        it.see(page.locator("#lost"), "s ago. What is below is from then.")
        assert float(page.locator("main").evaluate("it => getComputedStyle(it).opacity")) < 1
        assert "Connection lost" in page.title()
        put(tmp_path / "carry.onnx", score_model("carry"))
        with thread_sidecar(tmp_path, http=Address(host="127.0.0.1", port=port), page=QUICK):
            page.wait_for_selector("html[data-link=live]")
            it.see(it.row("carry"), "Answers")
            playwright.expect(page.locator("#lost")).to_be_hidden()
            it.said = [said for said in it.said if "net::ERR_" not in said]
            it.check()


def test_foreign_text_is_text(browser: Any, tmp_path: Path) -> None:
    """F10: markup in a file's operator shows as it is written, runs nothing, and violates no policy."""
    put(tmp_path / "momentum.onnx", score_model())
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar,
        opened(browser, sidecar, viewport=PHONE) as it,
    ):
        put(tmp_path / "momentum.onnx", hostile_model())
        sidecar.settle()
        it.see(it.row("momentum").locator(".reason"), "<script>window.hacked=1</script>")
        it.see(it.page.locator("#events"), "<script>window.hacked=1</script>")
        it.page.get_by_role("button", name="momentum", exact=True).click()
        it.see(it.row("momentum").locator(".details"), "Version 1")
        assert it.page.locator("main script, main img").count() == 0
        it.check()


def test_the_policy_lets_nothing_else_run(browser: Any, tmp_path: Path) -> None:
    """F10: even where markup got into the page, the browser would refuse it; nor is an address trusted."""
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar,
        opened(browser, sidecar, "#model-%zz") as it,
    ):
        refused = it.page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return '' } catch (e) { return e.name } }"
        )
        assert refused == "TypeError"
        it.page.evaluate(
            "() => { const it = document.createElement('img'); it.src = 'http://127.0.0.1:9/';"
            " document.body.append(it) }"
        )
        it.come_true("window.violations.includes('img-src')")


def test_keyboard_alone_finds_opens_and_reads(browser: Any, tmp_path: Path) -> None:
    """The models are found, opened and their charts read by keyboard, with the focus to be seen."""
    for name in ("momentum", "carry"):
        put(tmp_path / f"{name}.onnx", score_model(name))
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar, opened(browser, sidecar) as it:
        page = it.page
        it.see(it.row("carry"), "Answers")
        with traffic(sidecar, "carry"):
            it.come_true("Number(document.getElementById('answered-now').textContent) > 1")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Tab")
        chart = page.get_by_role("slider", name="Calls answered per second")
        playwright.expect(chart).to_be_focused()
        assert chart.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
        page.keyboard.press("ArrowLeft")
        assert float(chart.get_attribute("aria-valuenow")) < 0
        page.keyboard.press("Home")
        playwright.expect(chart).to_have_attribute("aria-valuetext", re.compile(r".* ago: [\d.]+/s"))
        page.keyboard.press("/")
        playwright.expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("carr")
        playwright.expect(it.row("momentum")).to_be_hidden()
        playwright.expect(page.locator("#shown")).to_have_text("1 of 2 models shown")
        page.keyboard.press("Tab")
        button = page.get_by_role("button", name="carry", exact=True)
        playwright.expect(button).to_be_focused()
        page.keyboard.press("Enter")
        playwright.expect(button).to_have_attribute("aria-expanded", "true")
        it.see(it.row("carry").locator(".details"), "Features in order")
        # It stays open and focused while the page goes on.
        seen = page.locator("#live-text").text_content()
        eventually(lambda: page.locator("#live-text").text_content() != seen, "the page goes on")
        playwright.expect(button).to_be_focused()
        playwright.expect(it.row("carry").locator(".details")).to_be_visible()
        it.check()


def test_an_address_opens_its_model_and_a_digest_is_copied(browser: Any, tmp_path: Path) -> None:
    """A link to a model opens it, and its digest is copied in full."""
    put(tmp_path / "momentum.onnx", score_model())
    with (
        thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar,
        opened(browser, sidecar, "#model-momentum", permissions=["clipboard-read", "clipboard-write"]) as it,
    ):
        details = it.row("momentum").locator(".details")
        digest = sidecar.sidecar.registry.resolve("momentum").servable.digest
        it.see(details, digest)
        it.see(details, "LinearRegression()")
        it.row("momentum").locator(".main .copy").click()
        it.see(it.row("momentum").locator(".main .copy"), "Copied")
        assert it.page.evaluate("navigator.clipboard.readText()") == digest
        it.check()


def test_two_hundred_models_stay_readable(browser: Any, tmp_path: Path) -> None:
    """Problems stand first, the attention filter leaves them alone, and long names and reasons wrap."""
    long_name = "z" * 128

    async def publish(registry: Registry) -> None:
        for number in range(199):
            registry.publish(FunctionServable(f"model_{number:03}"), 1)

    put(tmp_path / f"{long_name}.onnx", score_model(None))
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(thread_sidecar(tmp_path, http=HTTP, page=QUICK))
        sidecar.run(publish(sidecar.sidecar.registry))
        desk = stack.enter_context(opened(browser, sidecar))
        phone = stack.enter_context(opened(browser, sidecar, viewport=PHONE))
        desk.see(desk.page.locator("#count-all"), "200")
        put(tmp_path / f"{long_name}.onnx", hostile_model())
        sidecar.settle()
        for it in (desk, phone):
            it.see(it.page.locator("#count-attention"), "1")
            first = it.page.locator("tbody.model").first
            it.see(first, long_name)
            it.see(first, "New file refused")
            it.check()
            it.page.get_by_text("Attention").click()
            playwright.expect(it.page.locator("tbody.model:visible")).to_have_count(1)
            it.check()
