"""Certificates and tokens: what their files may hold, and what happens when they are renewed."""

import os
import subprocess
from pathlib import Path

import pytest
from certificates import Authority

from inference_server.adapters import certificate
from inference_server.adapters.certificate import TlsOptions, watch_certificate
from inference_server.adapters.renewal import MAX_FILE_BYTES, Renewal, RenewalError
from inference_server.adapters.token_file import TokenOptions, digest, watch_tokens
from inference_server.http.renewal_metrics import RenewalCollector

ONE = "a" * 32
TWO = "B-._~+/9" * 8 + "=="


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """An authority that issues certificates."""
    return Authority(tmp_path)


def openssl(*arguments: str | Path) -> None:
    """Run openssl, for what the library of the other tests cannot make."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_a_good_pair_is_read(ours: Authority) -> None:
    """Certificate, key, issuers and the time until which it holds are known."""
    chain, key = ours.issue("server")
    read = watch_certificate(TlsOptions(chain, key, ours.file)).value
    assert (read.chain, read.key) == (chain.read_bytes(), key.read_bytes())
    assert read.client_ca == ours.pem
    assert read.not_before_s < read.not_after_s
    assert read.trouble(read.not_before_s) == ""
    assert read.trouble(read.not_before_s - 1).startswith("not valid before 20")
    assert read.trouble(read.not_after_s).startswith("expired on 20")
    assert key.read_text() not in repr(read)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("pem", b"", "server.pem: expected certificates in PEM, there is none"),
        ("pem", b"\xff" * 100, "server.pem: expected certificates in PEM, there is none"),
        (
            "pem",
            b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
            "server.pem, SERVER.KEY: expected a certificate and its key in PEM, complete",
        ),
        ("key", b"", "server.key: expected a private key in PEM, there is none"),
        (
            "key",
            b"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
            "server.key: expected a certificate and its key in PEM, complete",
        ),
        ("ca", b"junk", "ca.pem: expected certificates of issuers in PEM, there is none"),
        ("ca", b"\xff", "ca.pem: expected certificates of issuers in PEM, there is none"),
        ("key", b"x" * (MAX_FILE_BYTES + 1), f"server.key: expected at most {MAX_FILE_BYTES} bytes"),
        ("key", None, "server.key: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_told(ours: Authority, file: str, content: bytes | None, told: str) -> None:
    """The text names the file and what was expected, at the start and at a renewal (F8)."""
    chain, key = ours.issue("server")
    options = TlsOptions(chain, key, ours.file)
    renewal = watch_certificate(options)
    before = renewal.value
    wrong = {"pem": chain, "key": key, "ca": ours.file}[file]
    wrong.write_bytes(content) if content is not None else wrong.unlink()
    with pytest.raises(RenewalError) as caught:
        watch_certificate(options)
    assert told.replace("SERVER.KEY", str(key)) in str(caught.value)
    renewal.refresh()
    assert renewal.problem == str(caught.value)
    assert renewal.value is before


def test_each_half_of_a_certificate_is_refused(ours: Authority) -> None:
    """A file that is being written is not taken, wherever it ends; the whole one is (F8)."""
    chain, key = ours.issue("server")
    renewal = watch_certificate(TlsOptions(chain, key))
    before = renewal.value
    whole, new_key = ours.pair()
    key.write_bytes(new_key)
    for size in range(0, len(whole) - 1, 37):
        chain.write_bytes(whole[:size])
        renewal.refresh()
        assert renewal.problem
        assert renewal.value is before
    chain.write_bytes(whole)
    renewal.refresh()
    assert (renewal.problem, renewal.value.chain) == ("", whole)


def test_what_is_handed_out_is_what_was_tried_out(ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change between the two looks at them are not taken: the next look decides (F8)."""
    chain, key = ours.issue("server")
    renewal = watch_certificate(TlsOptions(chain, key))
    whole, new_key = ours.pair()
    key.write_bytes(new_key)
    chain.write_bytes(whole)
    monkeypatch.setattr(certificate, "read_small", lambda file: file.read_bytes() + b"# written meanwhile\n")
    renewal.refresh()
    assert renewal.problem.endswith("server.key: being written")
    monkeypatch.undo()
    renewal.refresh()
    assert renewal.value.chain == whole


def test_files_behind_links_are_renewed_by_turning_one_link(tmp_path: Path) -> None:
    """As Kubernetes renews what it mounts: `..data` names another folder, the links of the files stay."""
    ours = Authority(tmp_path)
    for number in ("..1", "..2"):
        (tmp_path / number).mkdir()
        for name, content in zip(("tls.crt", "tls.key"), ours.pair(), strict=True):
            (tmp_path / number / name).write_bytes(content)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    renewal = watch_certificate(TlsOptions(tmp_path / "tls.crt", tmp_path / "tls.key"))
    assert renewal.value.chain == (tmp_path / "..1" / "tls.crt").read_bytes()
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    renewal.refresh()
    assert renewal.problem == ""
    assert renewal.value.chain == (tmp_path / "..2" / "tls.crt").read_bytes()


def test_a_key_of_another_certificate_is_refused(ours: Authority) -> None:
    """The pair has to fit (F8)."""
    chain, _ = ours.issue("server")
    _, other = ours.issue("other")
    with pytest.raises(RenewalError, match="the key is not the certificate's"):
        watch_certificate(TlsOptions(chain, other))


@pytest.mark.parametrize("kind", ["encrypted", "ed25519", "ed448", "for callers"])
def test_a_pair_that_no_caller_could_use_is_refused(ours: Authority, tmp_path: Path, kind: str) -> None:
    """A passphrase nobody can type, a key that gRPC's TLS does not take, a certificate not for servers."""
    chain, key = tmp_path / "c.pem", tmp_path / "c.key"
    new = ["-newkey", "rsa:2048"] if kind in {"encrypted", "for callers"} else ["-newkey", kind]
    secret = ["-passout", "pass:abcd"] if kind == "encrypted" else ["-nodes"]
    use = ["-addext", "extendedKeyUsage=clientAuth"] if kind == "for callers" else []
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    openssl("req", "-x509", *new, *secret, *use, *name, "-keyout", key, "-out", chain)
    told = {
        "encrypted": "expected a key without a passphrase",
        "for callers": "unsuitable certificate purpose",
    }
    with pytest.raises(RenewalError, match=told.get(kind, "expected an RSA or EC key")):
        watch_certificate(TlsOptions(chain, key))


def test_an_expired_certificate_replaces_no_good_one(
    ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start it is served, beside Unix sockets, and told of; as a renewal it is kept out (F8)."""
    expired = TlsOptions(*ours.issue("old", days=-1))
    renewal = watch_certificate(expired)
    assert "old.pem: expired on 20" in caplog.text
    assert renewal.problem == ""
    chain, key = ours.issue("old")
    renewal.refresh()
    assert renewal.value.chain == chain.read_bytes()
    ours.issue("old", days=-1)
    renewal.refresh()
    assert "old.pem: expired on 20" in renewal.problem
    assert renewal.value.chain != chain.read_bytes()
    assert key.exists()


def test_a_problem_ends_when_the_old_files_are_back(tmp_path: Path) -> None:
    """What was read before and is there again is no problem, and is not parsed again."""
    file = tmp_path / "tokens"
    file.write_text(ONE)
    renewal = watch_tokens(file)
    before = renewal.value
    file.write_text("short")
    renewal.refresh()
    assert renewal.problem
    file.write_text(ONE)
    renewal.refresh()
    assert renewal.problem == ""
    assert renewal.value is before


def test_one_file_of_two_that_cannot_be_used_shows_in_their_one_metric(tmp_path: Path) -> None:
    """Both files of tokens are one series: it is 1 whichever of them is wrong."""
    files = tmp_path / "predict", tmp_path / "control"
    for file in files:
        file.write_text(ONE)
    renewals = [watch_tokens(file) for file in files]

    def shown() -> list[tuple[dict[str, str], float]]:
        families = RenewalCollector(None, renewals).collect()
        return [(sample.labels, sample.value) for family in families for sample in family.samples]

    assert shown() == [({"files": "tokens"}, 0.0)]
    for wrong, renewal in zip(files, renewals, strict=True):
        wrong.write_text("short")
        renewal.refresh()
        assert shown() == [({"files": "tokens"}, 1.0)]
        wrong.write_text(ONE)
        renewal.refresh()


def test_a_problem_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that stays broken does not fill the log."""
    file = tmp_path / "tokens"
    file.write_text(ONE)
    renewal = watch_tokens(file)
    file.unlink()
    for _ in range(3):
        renewal.refresh()
    assert caplog.text.count("No such file") == 1


def test_what_becomes_good_with_time_is_taken_then(tmp_path: Path) -> None:
    """The same bytes that were refused are tried again."""
    file = tmp_path / "file"
    file.write_text("1")
    good = ["1"]

    def parse(contents, before):
        if contents[0].decode() not in good:
            raise RenewalError("not yet")
        return contents[0]

    renewal = Renewal("test", [file], parse)
    file.write_text("2")
    renewal.refresh()
    assert (renewal.problem, renewal.value) == ("not yet", b"1")
    good.append("2")
    renewal.refresh()
    assert (renewal.problem, renewal.value) == ("", b"2")


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """Nothing hangs on a FIFO or reads a device for ever."""
    path = tmp_path / "tokens"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(RenewalError, match="expected a file, there is something else"):
        watch_tokens(path)


def test_tokens_are_kept_as_digests(tmp_path: Path) -> None:
    """One a line; empty lines and comments say nothing, and the tokens themselves are not kept."""
    file = tmp_path / "tokens"
    file.write_text(f"# of the desk\n{ONE}\r\n\n  {TWO}  \n")
    renewal = watch_tokens(file)
    assert renewal.value == {digest(ONE.encode()), digest(TWO.encode())}
    assert ONE not in repr(vars(renewal))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected 1 to 16 tokens, one a line, there are 0"),
        ("# nothing\n", "there are 0"),
        (f"{ONE}\nsecret-but-short\n", "line 2: expected a token of 32 to 512 characters of A-Z"),
        ("a" * 513, "line 1: expected a token of 32 to 512 characters"),
        ("secret\twhich-has-a-tab-and-more-than-32-characters", "line 1: expected"),
        ("sécret" * 10, "line 1: expected"),
        ("".join(f"{number:032}\n" for number in range(17)), "there are 17"),
    ],
)
def test_a_wrong_token_is_told_without_a_word_of_it(tmp_path: Path, text: str, told: str) -> None:
    """The text names file and line, and never what stands there (F10)."""
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(RenewalError) as caught:
        watch_tokens(file)
    assert told in str(caught.value)
    assert str(file) in str(caught.value)
    assert not any(line and line in str(caught.value) for line in text.split())


def test_a_secret_that_others_can_read_is_told(ours: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """It is used, as Kubernetes mounts secrets so; the log names the file."""
    chain, key = ours.issue("server")
    chain.chmod(0o644)
    watch_certificate(TlsOptions(chain, key))
    assert "can read it" not in caplog.text
    key.chmod(0o644)
    watch_certificate(TlsOptions(chain, key))
    assert "server.key has mode 0644, anyone on this machine can read it" in caplog.text


def test_tokens_for_predictions_alone_are_refused(tmp_path: Path) -> None:
    """It would leave open to everyone what does more harm."""
    with pytest.raises(ValueError, match="expected tokens for control"):
        TokenOptions(predict=tmp_path)
