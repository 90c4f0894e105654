"""The commands and the strategy client with TLS and tokens, against real sidecars."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from onnx_files import score_model
from sidecars import ThreadSidecar, put, thread_sidecar

from inference_server.adapters.certificate import TlsOptions
from inference_server.adapters.token_file import TokenOptions
from strategy_client import InferenceClient, Security
from strategy_client.predictor.security import SecurityError
from strategy_client.predictor.status import InferenceError, UnauthenticatedError

TOKEN, OTHER = "token-of-the-desk-" * 2, "token-of-nobody---" * 2


class Desk:
    """A sidecar that trusts nobody without proof, and the files of who has it."""

    def __init__(self, folder: Path, sidecar: ThreadSidecar, ours: Authority) -> None:
        self.folder = folder
        self.sidecar = sidecar
        self.good = Security(ours.file, *ours.issue("trader", "trader"), folder / "token")

    def options(self, **changed: Path | None) -> list[str]:
        """The options of a command, with some changed or left out."""
        files = {"ca": self.good.ca, "certificate": self.good.certificate, "key": self.good.key}
        files |= {"token-file": self.good.token_file} | changed
        return [word for name, file in files.items() if file for word in (f"--{name}", str(file))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Mutual TLS and tokens for everything."""
    folder = tmp_path_factory.mktemp("desk")
    ours = Authority(folder)
    put(folder / "models" / "momentum.onnx", score_model("momentum"))
    for name, token in (("token", TOKEN), ("other", OTHER)):
        (folder / name).write_text(f"# a token\n{token}\n")
        (folder / name).chmod(0o600)
    Authority(folder, "theirs")
    chain, key = ours.issue("server")
    tokens = TokenOptions(folder / "token", folder / "token")
    with thread_sidecar(folder / "models", tls=TlsOptions(chain, key, ours.file), tokens=tokens) as sidecar:
        yield Desk(folder, sidecar, ours)


STRATEGIES = Path(__file__).resolve().parents[3] / "examples" / "strategies.yaml"
PROGRAMS = {"inference-server": "inference_server", "strategy-client": "strategy_client"}


def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line."""
    start = [sys.executable, "-c", f"from {PROGRAMS[name]}.cli import main; main()"]
    return subprocess.run([*start, *arguments], capture_output=True, text=True, check=False, timeout=100)


def own_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a command says itself, without what gRPC's core says of a handshake."""
    return [line for line in done.stderr.splitlines() if not line.startswith(("I1", "E1", "I0", "E0"))]


def test_the_commands_prove_who_they_are(desk: Desk) -> None:
    """With all files the sidecar answers by TLS; on its Unix socket the token alone does."""
    done = command("inference-server", "status", "--target", desk.sidecar.tcp, *desk.options())
    assert (done.returncode, done.stderr) == (0, "")
    assert "momentum" in done.stdout
    token = desk.options(ca=None, certificate=None, key=None)
    done = command("inference-server", "status", "--target", desk.sidecar.unix, *token)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"token-file": None}, 1, "UNAUTHENTICATED: no token came; the predict calls expect the metadata"),
        ({"token-file": "other"}, 1, "UNAUTHENTICATED: the token that came does not open the predict calls"),
        ({"token-file": "none"}, 2, "none: No such file or directory"),
        ({"token-file": "ca.pem"}, 2, "ca.pem: expected a token, a line of"),
        ({"ca": "theirs.pem"}, 1, "its certificate is not issued by one of --ca"),
        ({"ca": "token"}, 2, "token: expected certificates in PEM, there is none"),
        ({"ca": None}, 2, "expected --ca beside --certificate"),
        ({"key": None}, 2, "expected --certificate and --key, came one of them"),
        ({"key": "server.key"}, 2, "expected a certificate and its key in PEM, no passphrase"),
        ({"certificate": None, "key": None}, 1, "or want a certificate of this caller"),
        ({"certificate": None, "key": None, "ca": None}, 1, "it may speak TLS only"),
    ],
)
def test_what_is_wrong_is_told(desk: Desk, changed: dict[str, str | None], code: int, told: str) -> None:
    """One line that says which file, or what the sidecar does not like; and never the token (F10)."""
    files = {name: file and desk.folder / file for name, file in changed.items()}
    done = command("inference-server", "status", "--target", desk.sidecar.tcp, *desk.options(**files))
    assert (done.returncode, told in done.stderr, len(own_lines(done))) == (code, True, 1), done.stderr
    assert TOKEN not in done.stderr
    assert OTHER not in done.stderr


def test_a_token_does_not_leave_the_machine_in_plaintext(desk: Desk) -> None:
    """Without TLS to another machine, nothing is sent at all."""
    token = ("--token-file", str(desk.good.token_file))
    done = command("inference-server", "status", "--target", "192.0.2.1:8001", *token)
    assert (done.returncode, "the token would be sent in plaintext" in done.stderr) == (2, True)
    with pytest.raises(SecurityError, match="the token would be sent in plaintext"):
        InferenceClient("192.0.2.1:8001", security=Security(token_file=desk.good.token_file))


@pytest.mark.parametrize("address", ["unix", "tcp"])
def test_the_strategy_client_predicts(desk: Desk, address: str) -> None:
    """By a question and by its stream, over TLS with a certificate of its own, and a token."""
    with InferenceClient(getattr(desk.sidecar, address), security=desk.good) as client:
        assert client.wait_ready(60.0).ready
        assert client.predict("momentum", [1, 2, 3], timeout_s=60.0).version == 1


@pytest.mark.parametrize("token", [None, "other"])
def test_a_client_without_its_token_is_told_at_once(desk: Desk, token: str | None) -> None:
    """Whoever binds hears that it is the token, without waiting for the timeout."""
    files = desk.good
    security = Security(files.ca, files.certificate, files.key, token and desk.folder / token)
    with InferenceClient(desk.sidecar.tcp, security=security) as client:
        with pytest.raises(UnauthenticatedError, match="UNAUTHENTICATED"):
            client.wait_ready(timeout_s=60)
        with pytest.raises(UnauthenticatedError):
            client.predict("momentum", [1, 2, 3])


@pytest.mark.parametrize(
    ("ca", "own", "told"),
    [
        ("theirs.pem", True, "its certificate is not issued by one of the ca"),
        ("ca.pem", False, "or want a certificate of this client"),
        (None, False, "it may speak TLS only"),
    ],
)
def test_a_client_that_is_not_let_in_is_told_why(desk: Desk, ca: str | None, own: bool, told: str) -> None:
    """Also where it waits for a sidecar that may come up yet (F8)."""
    pair = (desk.good.certificate, desk.good.key) if own else (None, None)
    with (
        InferenceClient(desk.sidecar.tcp, security=Security(ca and desk.folder / ca, *pair)) as client,
        pytest.raises(InferenceError, match=told),
    ):
        client.wait_ready(timeout_s=4)


def test_a_token_is_exchanged_under_a_client(desk: Desk, tmp_path: Path) -> None:
    """A client sends what its file says now; while the file is away it sends what it said before."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with InferenceClient(desk.sidecar.unix, security=Security(token_file=file)) as client:
        client.describe()
        file.unlink()
        client.describe()
        file.write_text(OTHER)
        with pytest.raises(UnauthenticatedError):
            client.describe()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"certificate": "server.pem"}, "expected a certificate and its key, came one of them"),
        ({"certificate": "server.pem", "key": "server.key"}, "expected a ca beside the certificate"),
        ({"ca": "none"}, "none: No such file"),
        ({"ca": "token"}, "token: expected certificates in PEM"),
        ({"ca": "ca.pem", "certificate": "trader.pem", "key": "server.key"}, "a certificate and its key in"),
        ({"token_file": "none"}, "none: No such file"),
        ({"token_file": "empty"}, "empty: expected a token, a line without blanks"),
    ],
)
def test_files_that_cannot_be_used_are_told_at_the_start(
    desk: Desk, files: dict[str, str], told: str
) -> None:
    """Not by a connection that never comes about."""
    (desk.folder / "empty").write_text("# none\n")
    with pytest.raises(SecurityError, match=told):
        InferenceClient("127.0.0.1:1", security=Security(**{k: desk.folder / v for k, v in files.items()}))


def test_the_strategy_client_checks_by_tls(desk: Desk) -> None:
    """Its command line takes the same options, and says what is wrong with them."""
    arguments = ("check", "--strategies", str(STRATEGIES), "--target", desk.sidecar.tcp)
    done = command("strategy-client", *arguments, *desk.options())
    assert (done.returncode, "MODEL_NOT_FOUND" in done.stdout) == (1, True)  # it was asked, and said so
    done = command("strategy-client", *arguments, *desk.options(**{"token-file": desk.folder / "other"}))
    assert (done.returncode, "UNAUTHENTICATED" in done.stderr) == (1, True)
    done = command("strategy-client", *arguments, *desk.options(key=None))
    assert (done.returncode, "came one of them" in done.stderr) == (2, True)
