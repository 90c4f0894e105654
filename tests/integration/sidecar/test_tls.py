"""TLS and mTLS on the TCP listeners of real sidecars, and certificates that are renewed under them (F8)."""

import queue
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from certificates import Authority, credentials, served_certificate
from onnx_files import score_model
from sidecars import (
    PATIENCE_S,
    ThreadSidecar,
    describe,
    eventually,
    process_sidecar,
    put,
    stub,
    thread_sidecar,
)
from tickserve.v1 import predictor_pb2 as wire

from inference_server.adapters.certificate import TlsOptions
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.listener import ListenerOptions

LOOPBACK = Address("127.0.0.1")
ROW = np.array([1, 2, 3], dtype="<f4").tobytes()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one model."""
    folder = tmp_path_factory.mktemp("models")
    put(folder / "momentum.onnx", score_model("momentum"))
    return folder


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The authority that the sidecar and its callers trust."""
    return Authority(tmp_path)


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path, "other")


@pytest.fixture
def mutual(models: Path, ours: Authority) -> Iterator[ThreadSidecar]:
    """A sidecar that wants certificates of its callers, with HTTP."""
    chain, key = ours.issue("server")
    with thread_sidecar(models, tls=TlsOptions(chain, key, ours.file), http=LOOPBACK) as sidecar:
        yield sidecar


def ask(target: str, *how: Any, name: str = "", **options: Any) -> wire.DescribeModelsResponse:
    """Call over a connection of its own."""
    arguments = [("grpc.use_local_subchannel_pool", 1)]
    if name:
        arguments.append(("grpc.ssl_target_name_override", name))
    with grpc.secure_channel(target, credentials(*how, **options), arguments) as channel:
        return stub(channel, "DescribeModels", wire.DescribeModelsResponse)(
            wire.DescribeModelsRequest(), timeout=PATIENCE_S
        )


def port_of(sidecar: ThreadSidecar) -> int:
    """The port of its first TCP address."""
    return int(sidecar.tcp.rpartition(":")[2])


def test_a_caller_with_a_certificate_of_ours_is_answered(mutual: ThreadSidecar, ours: Authority) -> None:
    """Both sides prove who they are, and the call goes through; the Unix socket needs none of it (F8)."""
    assert ask(mutual.tcp, ours.pem, ours.pair("trader")).ready
    with grpc.insecure_channel(mutual.unix) as channel:
        assert describe(channel).ready


@pytest.mark.parametrize("wrong", ["none", "other authority", "expired", "not yet valid", "plaintext"])
def test_a_caller_without_a_good_certificate_is_not_let_in(
    mutual: ThreadSidecar, ours: Authority, theirs: Authority, wrong: str
) -> None:
    """No certificate, another issuer's, or one out of its time: no RPC begins, and others are served (F8)."""
    own = {
        "none": None,
        "other authority": theirs.pair("trader"),
        "expired": ours.pair("trader", days=-1),
        "not yet valid": ours.pair("trader", begins_in_days=0.5),
    }
    before = sum(durations.count for durations in mutual.sidecar.statistics.rpcs.values())
    with grpc.insecure_channel(mutual.tcp) as plain, pytest.raises(grpc.RpcError) as caught:
        describe(plain) if wrong == "plaintext" else ask(mutual.tcp, ours.pem, own[wrong])
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sum(durations.count for durations in mutual.sidecar.statistics.rpcs.values()) == before
    assert ask(mutual.tcp, ours.pem, ours.pair("trader")).ready


def test_certificates_may_come_from_an_authority_between(
    models: Path, ours: Authority, tmp_path: Path
) -> None:
    """Who shows the chain up to an issuer that is trusted is believed, on both sides; a leaf alone is not."""
    between = Authority(tmp_path, "between", above=ours)
    tls = TlsOptions(*between.issue("server"), ours.file)
    with thread_sidecar(models, tls=tls) as sidecar:
        chain, key = between.pair("trader")
        assert ask(sidecar.tcp, ours.pem, (chain, key)).ready
        leaf, end, _ = chain.partition(b"-----END CERTIFICATE-----\n")
        with pytest.raises(grpc.RpcError):
            ask(sidecar.tcp, ours.pem, (leaf + end, key))


def test_a_caller_refuses_a_server_that_it_does_not_know(
    mutual: ThreadSidecar, ours: Authority, theirs: Authority
) -> None:
    """A caller of another authority, or one that asked for another name, does not send its question (F8)."""
    with pytest.raises(grpc.RpcError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(mutual.tcp, theirs.pem, ours.pair("trader"))
    with pytest.raises(grpc.RpcError, match="Hostname Verification"):
        ask(mutual.tcp, ours.pem, ours.pair("trader"), name="example.org")


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that is what old versions are asked for with
def test_old_versions_of_tls_are_not_spoken(
    models: Path, ours: Authority, version: ssl.TLSVersion, spoken: bool
) -> None:
    """Both gRPC and HTTPS speak TLS 1.2 and 1.3, nothing before (F8)."""
    with thread_sidecar(models, tls=TlsOptions(*ours.issue("server")), http=LOOPBACK) as sidecar:
        for port in (port_of(sidecar), sidecar.sidecar.http_port):
            if spoken:
                assert served_certificate(port, version)
            else:
                with pytest.raises(OSError):
                    served_certificate(port, version)


def test_a_renewed_certificate_is_for_new_connections_and_cuts_no_old_one(
    models: Path, ours: Authority
) -> None:
    """Every address and HTTPS hand out the new certificate; a stream that was open goes on (F8)."""
    chain, key = ours.issue("server")
    with (
        thread_sidecar(models, tls=TlsOptions(chain, key), http=LOOPBACK, more=[LOOPBACK]) as sidecar,
        grpc.secure_channel(sidecar.tcp, credentials(ours.pem)) as channel,
    ):
        questions: queue.SimpleQueue[wire.PredictRequest | None] = queue.SimpleQueue()
        question = wire.PredictRequest(parts=[wire.PredictPart(model="momentum", rows=1, features=ROW)])
        answers = stub(channel, "PredictStream", wire.PredictResponse, kind="stream_stream")(
            iter(questions.get, None)
        )
        questions.put(question)
        assert next(answers).parts
        ports = [address.port for address in sidecar.sidecar.addresses if address.path is None]
        ports.append(sidecar.sidecar.http_port)
        assert len(ports) == 3
        first = {served_certificate(port) for port in ports}
        assert len(first) == 1
        ours.issue("server")
        renewal = sidecar.sidecar.renewals[0]
        renewal.refresh()
        assert renewal.problem == ""
        second = {served_certificate(port) for port in ports}
        assert len(second) == 1
        assert first != second
        questions.put(question)
        assert next(answers).parts
        questions.put(None)
        assert list(answers) == []


def test_a_renewal_is_noticed_by_itself(models: Path, ours: Authority) -> None:
    """Nobody has to tell a running process of new files (F8)."""
    chain, key = ours.issue("server")
    lines = f"tls = {{ certificate = '{chain}', key = '{key}' }}"
    config = chain.with_name("tickserve.toml")
    config.write_text(lines)
    with process_sidecar(models, "--listen", "127.0.0.1:0", "--config", str(config)) as sidecar:
        port = int(sidecar.log.read_text().partition("127.0.0.1:")[2].split()[0])
        first = served_certificate(port)
        ours.issue("server")
        eventually(lambda: served_certificate(port) != first, "the new certificate is handed out")
        said = "TLS: took over what the files say now"
        eventually(lambda: said in sidecar.log.read_text(), "it says so")


def test_renewed_issuers_decide_of_new_callers(
    mutual: ThreadSidecar, ours: Authority, theirs: Authority
) -> None:
    """When the file of issuers changes, it is the new ones whose callers are let in (F8)."""
    ours.file.write_bytes(theirs.pem)
    mutual.sidecar.renewals[0].refresh()
    assert ask(mutual.tcp, ours.pem, theirs.pair("trader")).ready
    with pytest.raises(grpc.RpcError):
        ask(mutual.tcp, ours.pem, ours.pair("trader"))


def test_a_renewal_that_is_broken_takes_nothing_down(mutual: ThreadSidecar, ours: Authority) -> None:
    """While the new files cannot be used the old ones serve; once they can, they are taken (F8)."""
    (renewal,) = mutual.sidecar.renewals
    before = served_certificate(mutual.sidecar.http_port)
    chain, key = ours.pair()
    file = ours.file.with_name("server.pem")
    file.write_bytes(chain)  # its key is not there yet
    renewal.refresh()
    assert renewal.problem.endswith("server.key: the key is not the certificate's")
    assert ask(mutual.tcp, ours.pem, ours.pair("trader")).ready
    assert served_certificate(mutual.sidecar.http_port) == before
    ours.file.with_name("server.key").write_bytes(key)
    renewal.refresh()
    assert renewal.problem == ""
    assert served_certificate(mutual.sidecar.http_port) != before


def test_http_is_https(models: Path, ours: Authority) -> None:
    """Probes and metrics come by TLS as well, without asking callers for a certificate (F8)."""
    chain, key = ours.issue("server")
    with thread_sidecar(models, tls=TlsOptions(chain, key, ours.file), http=LOOPBACK) as sidecar:
        port = sidecar.sidecar.http_port
        trusting = ssl.create_default_context(cadata=ours.pem.decode())
        with urllib.request.urlopen(
            f"https://localhost:{port}/v2/health/ready", context=trusting, timeout=PATIENCE_S
        ) as answer:
            assert answer.status == 200
        with pytest.raises((urllib.error.URLError, OSError)):
            urllib.request.urlopen(f"http://localhost:{port}/v2/health/ready", timeout=PATIENCE_S)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"https://localhost:{port}/", timeout=PATIENCE_S)


def test_tritonclient_calls_by_tls(mutual: ThreadSidecar, ours: Authority) -> None:
    """The standard client needs only its own options for it (F8)."""
    chain, key = ours.issue("trader", "trader")
    with triton.InferenceServerClient(
        mutual.tcp,
        ssl=True,
        root_certificates=str(ours.file),
        private_key=str(key),
        certificate_chain=str(chain),
    ) as client:
        assert client.is_server_ready()
        assert client.get_model_metadata("momentum").name == "momentum"


@pytest.mark.parametrize("where", ["grpc", "http"])
def test_with_tls_other_machines_may_reach_it(models: Path, ours: Authority, where: str) -> None:
    """Beyond loopback it is TLS, or plaintext that was asked for, or nothing."""
    everywhere = Address("0.0.0.0")  # noqa: S104 - that is what is tested
    options: dict[str, Any] = {"more": [everywhere]} if where == "grpc" else {"http": everywhere}
    with pytest.raises(AddressError, match="there is no TLS"), thread_sidecar(models, **options):
        pass
    with thread_sidecar(models, **options, listener=ListenerOptions(allow_remote_plaintext=True)):
        pass
    with thread_sidecar(models, **options, tls=TlsOptions(*ours.issue("server"))):
        pass


def test_an_operator_sees_a_renewal_that_failed_and_when_the_certificate_ends(
    models: Path, ours: Authority
) -> None:
    """Metrics tell both, so that an alert comes before callers are turned away."""
    chain, key = ours.issue("server", days=5)
    with thread_sidecar(models, tls=TlsOptions(chain, key), http=LOOPBACK) as sidecar:
        trusting = ssl.create_default_context(cadata=ours.pem.decode())

        def scraped() -> dict[str, float]:
            address = f"https://localhost:{sidecar.sidecar.http_port}/metrics"
            with urllib.request.urlopen(address, context=trusting, timeout=PATIENCE_S) as answer:
                lines = answer.read().decode().splitlines()
            return {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"
            }

        (renewal,) = sidecar.sidecar.renewals
        before = scraped()
        assert before['tickserve_renewal_problem{files="tls"}'] == 0
        assert before["tickserve_certificate_not_after_timestamp_seconds"] == renewal.value.not_after_s
        key.write_text("half")
        renewal.refresh()
        assert scraped()['tickserve_renewal_problem{files="tls"}'] == 1
