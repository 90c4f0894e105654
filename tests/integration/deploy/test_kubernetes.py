"""The manifests for Kubernetes and KServe: valid, of one piece with the sidecar, their probes answered."""

import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import pytest
import trustme
import yaml
from grpc_health.v1 import health_pb2
from onnx_files import score_model
from sidecars import PATIENCE_S, eventually, put, stub

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SIDECAR = DEPLOY / "kubernetes" / "sidecar.yaml"
SERVER = DEPLOY / "kubernetes" / "server.yaml"
RUNTIME = DEPLOY / "kserve" / "servingruntime.yaml"
SERVICE = DEPLOY / "kserve" / "inferenceservice.yaml"
PROGRAM = Path(sys.executable).with_name("inference-server")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Where there is a checkout of KServe's definitions (its config/crd/full), they are compared with.
KSERVE_DEFINITIONS = os.environ.get("KSERVE_DEFINITIONS", "")


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def one(path: Path, kind: str) -> dict[str, Any]:
    """The object of a kind that a file has one of."""
    (found,) = [document for document in documents(path) if document["kind"] == kind]
    return found


def containers(path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of ours, with the specification of its pod."""
    if path == RUNTIME:
        pod = one(path, "ServingRuntime")["spec"]
    else:
        pod = one(path, "Deployment")["spec"]["template"]["spec"]
    every = [*pod.get("initContainers", ()), *pod["containers"]]
    return [(it, pod) for it in every if it["image"].startswith("tickserve:")]


def probes(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A container's probes by name."""
    return {name: probe for name, probe in container.items() if name.endswith("Probe")}


@pytest.mark.parametrize("path", [SIDECAR, SERVER], ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(path: Path) -> None:
    """Each object fits the newest published schema, without a field that it does not know."""
    for document in documents(path):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_runtime_would_be_a_pod_that_kubernetes_takes() -> None:
    """What the ServingRuntime says of its container and volumes fits the schema of a pod."""
    spec = one(RUNTIME, "ServingRuntime")["spec"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "annotations": spec["annotations"]},
        "spec": {"containers": spec["containers"], "volumes": spec["volumes"]},
    }
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def fits(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:  # noqa: C901 - a branch a kind
    """What does not fit an OpenAPI schema: unknown and missing keys, types, values not in a list."""
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if schema.get("x-kubernetes-int-or-string"):
        return
    if not isinstance(value, types[schema["type"]]):
        yield f"{place}: expected {schema['type']}, came {value!r}"
    elif isinstance(value, dict):
        known = schema.get("properties")
        yield from (f"{place}.{key}: missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            if known is not None and key in known:
                yield from fits(item, known[key], f"{place}.{key}")
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from fits(item, schema["additionalProperties"], f"{place}.{key}")
            elif known is not None:
                yield f"{place}.{key}: unknown"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from fits(item, schema["items"], f"{place}[{index}]")
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is not in {schema['enum']}"


@pytest.mark.skipif(
    not KSERVE_DEFINITIONS, reason="KSERVE_DEFINITIONS names no folder with KServe's definitions"
)
@pytest.mark.parametrize("path", [RUNTIME, SERVICE], ids=lambda path: path.name)
def test_kserve_takes_the_manifests(path: Path) -> None:
    """Each object fits KServe's own definition of its kind, without a field that it does not know."""
    (document,) = documents(path)
    group, version = document["apiVersion"].split("/")
    definition = yaml.safe_load(
        (Path(KSERVE_DEFINITIONS) / f"{group}_{document['kind'].lower()}s.yaml").read_text()
    )
    (schema,) = [it["schema"] for it in definition["spec"]["versions"] if it["name"] == version]
    assert list(fits(document, schema["openAPIV3Schema"], document["kind"])) == []


def test_the_service_names_the_runtime() -> None:
    """The InferenceService asks for this runtime by the name, format and protocol that it has."""
    runtime = one(RUNTIME, "ServingRuntime")
    asked = one(SERVICE, "InferenceService")["spec"]["predictor"]["model"]
    assert asked["runtime"] == runtime["metadata"]["name"]
    assert "--models=/mnt/models" in runtime["spec"]["containers"][0]["args"]  # where KServe puts them
    assert asked["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert asked["modelFormat"] in [
        {"name": it["name"], "version": it["version"]} for it in runtime["spec"]["supportedModelFormats"]
    ]


@pytest.mark.parametrize("path", [SIDECAR, SERVER, RUNTIME], ids=lambda path: path.name)
def test_each_container_is_bound_and_its_volumes_are_there(path: Path) -> None:
    """Not root, nothing to gain, nothing to write but its volumes; memory is bounded, time is not."""
    ((container, pod),) = containers(path)
    security = container["securityContext"]
    assert security["runAsUser"] == 10001
    assert {**pod.get("securityContext", {}), **security}["runAsNonRoot"] is True
    assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {**pod.get("securityContext", {}), **security}["seccompProfile"] == {"type": "RuntimeDefault"}
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written <= {"/run/tickserve", "/var/lib/tickserve"}


@pytest.mark.parametrize("path", [SIDECAR, SERVER, RUNTIME], ids=lambda path: path.name)
def test_probes_and_ports_are_those_that_are_listened_on(path: Path, tmp_path: Path) -> None:
    """Every port of a probe, annotation or Service is one that serve shows as listened on in this pod."""
    ((container, _),) = containers(path)
    config = tmp_path / "tickserve.toml"
    config.write_text(
        (DEPLOY / "container" / "tickserve.toml").read_text()
        if path == RUNTIME
        else one(path, "ConfigMap")["data"]["tickserve.toml"]
    )
    command = [str(PROGRAM), *container.get("args", ["serve"]), "--config", str(config), "--show-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listened = {int(port) for port in re.findall(r"0\.0\.0\.0:(\d+)", done.stdout)}
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {named.get(port, port) for port in _ports(container)}
    assert asked <= listened
    assert set(named.values()) <= listened
    text = path.read_text()
    for port in re.findall(r"/port: \"(\d+)\"", text) + re.findall(r"\{(?:name: \w+, )?port: (\d+)", text):
        assert int(port) in listened


def _ports(container: dict[str, Any]) -> Iterator[int | str]:
    for probe in probes(container).values():
        (how,) = [probe[key] for key in ("grpc", "httpGet") if key in probe]
        yield how["port"]


def test_the_drain_has_the_time_that_it_may_take() -> None:
    """F3: what comes before the drain, the drain, and the end after it fit into the pods' grace periods."""
    for path in (SIDECAR, SERVER):
        ((container, pod),) = containers(path)
        before_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] > before_s + 10 + 1 + 2 + 5


def test_the_sidecar_starts_before_the_runner_and_shares_its_socket() -> None:
    """It is an init container that goes on, on the same folder, whose group the runner has."""
    ((container, pod),) = containers(SIDECAR)
    assert container in pod["initContainers"]
    assert container["restartPolicy"] == "Always"
    (runner,) = pod["containers"]
    run = {"name": "run", "mountPath": "/run/tickserve"}
    assert run in container["volumeMounts"]
    assert run in runner["volumeMounts"]
    assert runner["securityContext"]["runAsGroup"] == pod["securityContext"]["fsGroup"]
    assert runner["env"] == [{"name": "TICKSERVE_TARGET", "value": "unix:/run/tickserve/tickserve.sock"}]
    toml = one(SIDECAR, "ConfigMap")["data"]["tickserve.toml"]
    assert '"unix:/run/tickserve/tickserve.sock"' in toml
    assert one(SIDECAR, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


@contextmanager
def started(folder: Path, config: str, arguments: list[str]) -> Iterator[tuple[dict[int, int], Path]]:
    """Run a pod's sidecar here, its paths below a folder; yield its ports by the pod's, and its log."""
    log, file = folder / "log", folder / "tickserve.toml"
    listened: list[str] = []

    def here(match: re.Match[str]) -> str:
        listened.append(match[1])
        return "127.0.0.1:0"

    for inside in ("/models", "/mnt/models", "/run/tickserve", "/var/lib/tickserve", "/etc/tickserve-"):
        outside = folder / inside[1:].replace("mnt/", "")
        (outside if not inside.endswith("-") else outside.parent).mkdir(parents=True, exist_ok=True)
        config = re.sub(rf'(?<=["=:]){inside}\b|(?<="){inside}', str(outside), config)
        arguments = [re.sub(rf"(?<=[=:]){inside}\b", str(outside), argument) for argument in arguments]
    argued = [re.sub(r"0\.0\.0\.0:(\d+)", here, argument) for argument in arguments]
    if listened:
        config = re.sub(r"^(listen|http) .*\n", "", config, flags=re.MULTILINE)
    file.write_text(re.sub(r"0\.0\.0\.0:(\d+)", here, config))
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(PROGRAM), *argued, "--config", str(file)], stdout=stream, stderr=stream
        )
    try:
        eventually(
            lambda: process.poll() is not None or re.search(r"https? on ", log.read_text()),
            "it answers by HTTP too, or has ended",
        )
        text = log.read_text()
        grpc_port = re.search(r"listening on .*127\.0\.0\.1:(\d+)", text)
        http_port = re.search(r"https? on 127\.0\.0\.1:(\d+)", text)
        assert grpc_port, text
        assert http_port, text
        yield dict(zip(map(int, listened), (int(grpc_port[1]), int(http_port[1])), strict=True)), log
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def asked(probe: dict[str, Any], ports: dict[int, int]) -> int:
    """What a gRPC probe gets, as the kubelet asks: in plaintext, for a service by name."""
    with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
        check = stub(channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        return check(request, timeout=PATIENCE_S).status


@pytest.mark.parametrize("path", [SIDECAR, RUNTIME], ids=lambda path: path.name)
def test_the_grpc_probes_are_answered_and_only_readiness_waits_for_models(path: Path) -> None:
    """F1: without models the pod starts and lives, and is not ready; with one in its folder it is."""
    ((container, _),) = containers(path)
    config = (
        (DEPLOY / "container" / "tickserve.toml").read_text()
        if path == RUNTIME
        else one(path, "ConfigMap")["data"]["tickserve.toml"]
    )
    with tempfile.TemporaryDirectory(prefix="ts") as folder:
        arguments = container.get("args", ["serve"])
        with started(Path(folder), config, arguments) as (ports, _):
            answers = {name: asked(probe, ports) for name, probe in probes(container).items()}
            assert answers.pop("readinessProbe") == NOT_SERVING
            assert set(answers.values()) == {SERVING}
            stored = Path(folder) / "stored" / "one.onnx"
            put(stored, score_model("one"))
            (Path(folder) / "models" / "one.onnx").symlink_to(
                stored
            )  # as KServe does for some kinds of storage
            eventually(lambda: asked(container["readinessProbe"], ports) == SERVING, "it is ready")


def test_the_shared_server_answers_its_probes_by_https_without_a_certificate() -> None:
    """F1, F8: the probes of a server under mutual TLS are answered; its gRPC port refuses who has none."""
    ((container, _),) = containers(SERVER)
    authority, context = trustme.CA(), ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as the kubelet asks
    with tempfile.TemporaryDirectory(prefix="ts") as name:
        folder = Path(name)
        secrets = {
            "tickserve-tls": folder / "etc/tickserve-tls",
            "tickserve-tokens": folder / "etc/tickserve-tokens",
        }
        for secret in secrets.values():
            secret.mkdir(parents=True)
        own = authority.issue_cert("localhost")
        own.private_key_and_cert_chain_pem.write_to_path(str(secrets["tickserve-tls"] / "tls.crt"))
        own.private_key_pem.write_to_path(str(secrets["tickserve-tls"] / "tls.key"))
        authority.cert_pem.write_to_path(str(secrets["tickserve-tls"] / "ca.crt"))
        for group in ("predict", "control"):
            (secrets["tickserve-tokens"] / group).write_text(
                f"{group}-token-that-is-long-enough-0123456789\n"
            )
        for secret in secrets.values():
            for file in secret.iterdir():
                file.chmod(0o440)  # as the manifest's volumes have them
        put(folder / "models" / "one.onnx", score_model("one"))
        config = one(SERVER, "ConfigMap")["data"]["tickserve.toml"]
        with started(folder, config, ["serve"]) as (ports, _):

            def got(probe: dict[str, Any]) -> int:
                port = {"https": 8002}[probe["httpGet"]["port"]]
                assert probe["httpGet"]["scheme"] == "HTTPS"
                url = f"https://127.0.0.1:{ports[port]}{probe['httpGet']['path']}"
                try:
                    return urllib.request.urlopen(url, timeout=PATIENCE_S, context=context).status
                except urllib.error.HTTPError as error:
                    return error.code

            assert got(container["livenessProbe"]) == got(container["startupProbe"]) == 200
            eventually(lambda: got(container["readinessProbe"]) == 200, "it is ready")
            with grpc.insecure_channel(f"127.0.0.1:{ports[8001]}") as channel:
                check = stub(channel, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse)
                with pytest.raises(grpc.RpcError) as refused:
                    check(health_pb2.HealthCheckRequest(service="live"), timeout=PATIENCE_S)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_no_manifest_names_a_registry() -> None:
    """Images are named without a host: whose registry they come from is the operator's business."""
    for path in (SIDECAR, SERVER, RUNTIME):
        images = re.findall(r"image: (\S+)", path.read_text())
        assert images
        assert not [image for image in images if "/" in image]
