"""The status page's files and data, as they come over HTTP from a real sidecar."""

import hashlib
import http.client
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from onnx_files import score_contract, score_model
from sidecars import PATIENCE_S, ThreadSidecar, eventually, put, stub, thread_sidecar
from tickserve.v1 import predictor_pb2 as wire

from inference_server.http.page_history import STEPS
from inference_server.http.page_journal import MAX_TEXT
from inference_server.http.page_options import PageOptions
from inference_server.rpc.address import Address
from inference_server.serving.registry import Standing

HTTP = Address(host="127.0.0.1")
QUICK = PageOptions(step_s=0.25)
ROW = b"\0\0\x80?" * 3
FILES = ("/", "/status.css", "/status.js", "/charts.js", "/details.js", "/status.svg")


class Answer:
    """One answer over HTTP."""

    def __init__(self, sidecar: ThreadSidecar, path: str, *, method: str = "GET", host: str | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.sidecar.http_port, timeout=PATIENCE_S)
        connection.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        connection.close()


def document(sidecar: ThreadSidecar, cursor: str = "") -> dict[str, Any]:
    """Return the data for a reader with this cursor."""
    return json.loads(Answer(sidecar, f"/status.json?cursor={cursor}").body)


def one_model(sidecar: ThreadSidecar) -> dict[str, Any]:
    """Return what is told of the only model."""
    (model,) = document(sidecar)["models"]
    return model


def ask(sidecar: ThreadSidecar, *parts: wire.PredictPart) -> None:
    """Ask the sidecar; what it answers does not matter."""
    with grpc.insecure_channel(sidecar.unix) as channel:
        stub(channel, "Predict", wire.PredictResponse)(wire.PredictRequest(parts=parts), timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadSidecar]:
    """One sidecar with one model, for tests that only look."""
    folder = tmp_path_factory.mktemp("models")
    put(folder / "momentum.onnx", score_model())
    options = PageOptions(hosts=("trading.example",))
    with thread_sidecar(folder, http=HTTP, page=options) as sidecar:
        yield sidecar


def test_what_is_served_is_told(tmp_path: Path) -> None:
    """F5: state, digest, contract and times of what answers; after a swap, of the new bytes."""
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
        empty = document(sidecar)
        assert (empty["ready"], empty["models"], empty["events"]) == (False, [], [])
        for bias in (0.0, 1.0):
            model = score_model(bias=bias)
            put(tmp_path / "momentum.onnx", model)
            sidecar.settle()
            found = document(sidecar)
            assert found["ready"] is True
            (told,) = found["models"]
            assert (told["name"], told["default_version"], told["problem"]) == ("momentum", "1", "")
            assert (told["behind_since_s"], told["last_problem"]) == (None, None)
            (version,) = told["versions"]
            assert version["state"] == "AVAILABLE"
            assert version["digest"] == hashlib.sha256(model).hexdigest()
            assert version["contract_hash"] == score_contract().hash
            assert version["verified"] is True
            assert 1.7e9 < version["available_since_s"] <= found["now_s"]
            newest = found["events"][0] if bias else found["events"][-1]
            assert (newest["kind"], newest["digest"]) == ("answers", version["digest"])


def test_a_refused_file_is_told_with_its_reason_and_stays_known(tmp_path: Path) -> None:
    """A5, A6: a refused file's model is behind and says why; once mended, the last reason stays."""
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
        put(tmp_path / "momentum" / "1" / "model.onnx", score_model())
        sidecar.settle()
        one_model(sidecar)
        put(tmp_path / "momentum" / "2" / "model.onnx", score_model(n_features=2))
        sidecar.settle()
        told = one_model(sidecar)
        assert told["default_version"] == "1"
        assert told["behind_since_s"] > 1.7e9
        assert "it names 3 features" in told["problem"]
        assert (told["refused"], told["versions"][0]["refused"]) == (True, True)
        assert told["last_problem"] == {
            "text": told["problem"],
            "since_s": told["behind_since_s"],
            "until_s": None,
        }
        put(tmp_path / "momentum" / "2" / "model.onnx", score_model(bias=2.0))
        sidecar.settle()
        mended = one_model(sidecar)
        assert (mended["problem"], mended["refused"], mended["behind_since_s"]) == ("", False, None)
        assert mended["last_problem"]["text"] == told["problem"]
        assert mended["last_problem"]["until_s"] >= mended["last_problem"]["since_s"]


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    """F10: whatever a file makes its reason, the page gets its first 2,000 characters alone."""
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:

        async def stand() -> None:
            sidecar.sidecar.registry.require_named(["momentum"])
            sidecar.sidecar.registry.set_standing("momentum", Standing(problem="x" * 10_000))

        sidecar.run(stand())
        found = document(sidecar)
        (model,) = found["models"]
        texts = [model["problem"], model["last_problem"]["text"], *(it["text"] for it in found["events"])]
        assert set(map(len, texts)) == {MAX_TEXT + 2}  # and the sign that it was cut


def test_not_ready_says_for_want_of_which_models(tmp_path: Path) -> None:
    """F1: a required model that does not answer is named; while draining, the page says that it stops."""
    put(tmp_path / "one.onnx", score_model("one"))
    with thread_sidecar(tmp_path, http=HTTP, required=("one", "other")) as sidecar:
        found = document(sidecar)
        assert (found["ready"], found["stopping"], found["missing"]) == (False, False, ["other"])
        assert {model["name"]: model["required"] for model in found["models"]} == {"one": True, "other": True}
        put(tmp_path / "other.onnx", score_model("other"))
        sidecar.settle()
        assert (document(sidecar)["ready"], document(sidecar)["missing"]) == (True, [])
        sidecar.sidecar.drain.begin()
        assert (document(sidecar)["ready"], document(sidecar)["stopping"]) == (False, True)


def test_calls_are_told_by_model_and_reason(tmp_path: Path) -> None:
    """F5: answered and failed calls agree with what was asked, in sum, by model, by reason, and by step."""
    put(tmp_path / "momentum.onnx", score_model())
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
        good = wire.PredictPart(model="momentum", rows=2, features=ROW * 2)
        bad = wire.PredictPart(model="momentum", rows=1, features=ROW[:4])
        ask(sidecar, good, good, bad, wire.PredictPart(model="nobody", rows=1, features=ROW))
        document(sidecar)  # written before there is a step, it must not stay

        def stepped() -> dict[str, Any] | None:
            found = document(sidecar)
            return found if found["history"]["series"] else None

        found = eventually(stepped, "a step with the calls")
        numbers = found["numbers"]
        (failed,) = numbers["models"]["momentum"]["failed"]
        assert failed == {"status": "INVALID_ARGUMENT", "reason": "invalid_request", "calls": 1}
        assert numbers["models"]["momentum"]["answered"] == 2
        assert numbers["models"]["momentum"]["rows"] == 4
        assert numbers["models"]["momentum"]["in_flight"] == 0
        assert [it["reason"] for it in numbers["no_model"]["failed"]] == ["model_not_found"]
        assert (numbers["total"]["answered"], sum(it["calls"] for it in numbers["total"]["failed"])) == (2, 2)
        series = found["history"]["series"]
        assert set(series) == {"*", "momentum"}
        # How long the step took in truth, by which these are divided, is the machine's business.
        assert sum(series["momentum"]["answered_per_s"]) > 0
        assert sum(series["*"]["failed_per_s"]) > 0
        assert max(it or 0 for it in series["*"]["p50_us"]) > 0
        steps = found["history"]["last"] - found["history"]["first"] + 1
        assert {len(values) for values in series["momentum"].values()} == {steps}


def test_a_reader_gets_only_what_it_lacks(tmp_path: Path) -> None:
    """A reader that names what it has gets nothing twice; one of another run, or with nonsense, gets all."""
    put(tmp_path / "momentum.onnx", score_model())
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
        full = document(sidecar)
        run = full["cursor"].split(".")[0]
        again = document(sidecar, full["cursor"])
        assert (again["models"], again["events"]) == (None, None)
        put(tmp_path / "momentum.onnx", score_model(bias=1.0))
        sidecar.settle()
        assert document(sidecar, full["cursor"])["models"] is not None

        def later() -> dict[str, Any] | None:
            found = document(sidecar, full["cursor"])
            return found if found["history"] else None

        found = eventually(later, "a step that the reader has not")
        assert found["numbers"] is not None
        assert found["history"]["first"] == full["history"]["last"] + 1
        eventually(
            lambda: document(sidecar, document(sidecar)["cursor"])["history"] is None, "it has every step"
        )
        strange = ["", "nonsense", f"{run}.-1.0", f"{run}.1.2.3", f"{run}.%D9%A1.1", "9" * 5000]
        for cursor in strange:
            whole = document(sidecar, cursor)
            assert None not in (whole["models"], whole["events"], whole["numbers"], whole["history"])
        seen = document(sidecar)["cursor"].split(".", 1)[1]
        assert document(sidecar, f"{run}.{seen}")["models"] is None
        assert document(sidecar, f"1.{seen}")["models"] is not None
        assert document(sidecar, f"{run}.{10**15}.{10**15}")["models"] is not None
        assert full["steps"] == STEPS


def test_a_step_is_as_long_as_is_said(tmp_path: Path) -> None:
    """Samples are taken as often as the options say: of the usual two seconds, these would be minutes."""
    with thread_sidecar(tmp_path, http=HTTP, page=PageOptions(step_s=0.01)) as sidecar:
        eventually(lambda: document(sidecar)["history"]["last"] >= 50, "fifty steps")
        assert document(sidecar)["step_s"] == 0.01


def test_what_a_model_promises_is_told_in_full(plain: ThreadSidecar) -> None:
    """Features in order with their ranges, outputs and provenance are told of a model when asked for."""
    contract = score_contract()
    found = json.loads(Answer(plain, "/status/momentum.json").body)
    (version,) = found["versions"]
    assert version["contract"]["features"] == [{"name": it, "low": -1.0, "high": 1.0} for it in "abc"]
    assert version["contract"]["outputs"] == [{"name": "score", "kind": "value", "classes": []}]
    assert version["contract"]["hash"] == contract.hash
    assert version["contract"]["estimator"] == "LinearRegression()"
    assert version["contract"]["trained_at_s"] == contract.trained_at_ns / 1e9
    assert version["inputs"] == ["features: FP32[?, 3]"]
    assert version["vetting"]["memory_bytes"] > 0
    assert Answer(plain, "/status/nobody.json").status == 404


def test_versions_are_exact_in_a_browser(tmp_path: Path) -> None:
    """A version beyond 2^53, where a browser's numbers end, is told as text to the digit."""
    number = 2**63 - 1
    model = score_model(contract=score_contract(version=number))
    put(tmp_path / "momentum" / str(number) / "model.onnx", model)
    with thread_sidecar(tmp_path, http=HTTP, page=QUICK) as sidecar:
        assert one_model(sidecar)["default_version"] == str(number)
        assert one_model(sidecar)["versions"][0]["version"] == str(number)


@pytest.mark.parametrize("path", [*FILES, "/status.json", "/status/momentum.json", "/status/nobody.json"])
def test_the_browser_is_told_to_trust_nothing_else(plain: ThreadSidecar, path: str) -> None:
    """F10: every answer forbids foreign and inline scripts, framing, sniffing, referrers and caching."""
    answer = Answer(plain, path)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_the_page_holds_no_markup_that_runs_and_nothing_foreign(plain: ThreadSidecar) -> None:
    """F10: no inline script or style, no address of another host, and nothing that parses text as markup."""
    for path in FILES:
        text = Answer(plain, path).body.decode()
        for forbidden in (
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            " style=",
            " onclick",
            "eval(",
        ):
            assert forbidden not in text, f"{path}: {forbidden}"
        assert "https://" not in text, path
        assert text.replace("http://www.w3.org/2000/svg", "").count("http://") == 0, path


def test_the_page_is_small(plain: ThreadSidecar) -> None:
    """A phone loads it at once: all its files together are below 80 kB."""
    assert sum(len(Answer(plain, path).body) for path in FILES) < 80_000


@pytest.mark.parametrize("path", ["/", "/status.json", "/status/momentum.json"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8002", 200),
        ("[::1]:8002", 200),
        ("10.1.2.3", 200),
        ("localhost:8002", 200),
        ("LOCALHOST", 200),
        ("localhost.", 200),
        ("sidecar.localhost", 200),
        (socket.gethostname(), 200),
        ("trading.example:8002", 200),
        ("evil.example", 421),
        ("evil.trading.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("notlocalhost", 421),
        ("evil.example:127.0.0.1", 421),
        ("[evil.example]", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_known_is_refused(plain: ThreadSidecar, path: str, host: str, status: int) -> None:
    """F10: a foreign web page that points a name of its own at the sidecar reads nothing of it."""
    answer = Answer(plain, path, host=host)
    assert answer.status == status
    assert (b"momentum" in answer.body) is (status == 200 and path != "/")


def test_the_page_is_read_and_never_written(plain: ThreadSidecar) -> None:
    """Other methods than GET and HEAD are refused."""
    for path in (*FILES, "/status.json", "/status/momentum.json"):
        statuses = {
            method: Answer(plain, path, method=method).status
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
        }
        assert statuses == {"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405}


def test_hundreds_who_look_at_once_cost_one_writing(plain: ThreadSidecar) -> None:
    """E6: what many readers get is written once and shared; one that never reads holds up nobody."""
    with socket.create_connection(
        ("127.0.0.1", plain.sidecar.http_port), timeout=PATIENCE_S
    ):  # one that never reads
        bodies = [Answer(plain, "/status.json").body for _ in range(200)]
    models = {body[body.index(b'"models"') : body.index(b'"numbers"')] for body in bodies}
    assert len(models) == 1
    assert urllib.request.urlopen(f"http://127.0.0.1:{plain.sidecar.http_port}/v2/health/ready").status == 200
