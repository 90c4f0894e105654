"""The sidecar's configuration: flags, variables and file, which wins, and what a wrong one is told."""

from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from inference_server.adapters.certificate import TlsOptions
from inference_server.adapters.shared_memory import SharedMemoryOptions
from inference_server.adapters.token_file import TokenOptions
from inference_server.config import Config, effective, read_config
from inference_server.config_layers import ConfigError, Layer, environment_layer, file_layer, named_layer
from inference_server.config_values import bytes_of
from inference_server.http.page_options import PageOptions
from inference_server.rpc.address import Address, SocketOptions
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.tracing import TracingOptions
from inference_server.serving.data_plane import DataPlaneOptions
from inference_server.serving.policy import All, Latest, Specific
from inference_server.serving.settings import DEFAULT_SETTINGS, LabelError, ModelSettings, check_label
from inference_server.serving.turns import TurnsOptions

EVERY_KEY = """
    models = "m"
    listen = ["unix:/run/a.sock"]
    http = "off"
    control = "explicit"
    state = "s"
    max_memory = "4 GiB"
    allow_remote_plaintext = true
    log_level = "debug"
    [tls]
    certificate = "c.pem"
    key = "c.key"
    client_ca = "ca.pem"
    [tokens]
    predict = "p.tokens"
    control = "c.tokens"
    [socket]
    mode = "0660"
    owner = "tickserve"
    group = "trading"
    [limits]
    max_calls = 40
    max_calls_per_model = 30
    max_input_bytes = "20 MiB"
    runs_at_once = 3
    runs_per_version = 1
    max_streams = 9
    max_connections = 70
    max_message = "1 MiB"
    max_metadata = "8 KiB"
    max_streams_per_connection = 2000
    keepalive_s = 30
    keepalive_timeout_s = 5.5
    min_ping_interval_s = 1.0
    drain_timeout_s = 2.0
    [model.a]
    versions = "latest 2"
    required = true
    [model.b]
    versions = "all"
    [model.c]
    versions = [3, 5]
    [model.d]
    versions = "latest"
    [model.e]
    allow_contract_change = true
    labels = { stable = 3, canary-2 = 4 }
    [model.f]
    required = false
    [model.g]
    max_calls = 7
"""


def write(tmp_path: Path, text: str) -> Path:
    """Write a configuration file."""
    path = tmp_path / "tickserve.toml"
    path.write_text(text)
    return path


def from_file(tmp_path: Path, text: str) -> Config:
    """What a file alone says."""
    return read_config([file_layer(write(tmp_path, text))])


def from_variables(**variables: str) -> Config:
    """What variables alone say; their names are given without TICKSERVE_."""
    return read_config([environment(**variables)])


def environment(**variables: str) -> Layer:
    """The layer of variables, their names without TICKSERVE_, beside one that is no business of ours."""
    return environment_layer({f"TICKSERVE_{name}": text for name, text in variables.items()} | {"PATH": "/"})


def test_where_nothing_is_said_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without file, variables and flags it is ./models on the Unix socket and on loopback."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/tickserve")
    config = read_config([])
    assert config.models == Path("models")
    assert config.listen == (Address(path=Path("/run/user/7/tickserve.sock")), Address("127.0.0.1", 8001))
    assert config.http == Address("127.0.0.1", 8002)
    assert config.state is not None
    assert config.state.parent == Path("/var/lib/tickserve")
    assert (config.control, config.max_memory, config.log_level) == ("files", None, "INFO")
    assert not config.allow_remote_plaintext
    assert (config.settings, config.required) == ({}, ())


def test_the_state_folder_follows_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sidecars on two folders keep their states apart without being told."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/tickserve")
    assert from_variables(MODELS="/a").state != from_variables(MODELS="/b").state


def test_every_key_is_read(tmp_path: Path) -> None:
    """Each documented key ends up in the Config."""
    config = from_file(tmp_path, EVERY_KEY)
    assert config.models == Path("m")
    assert config.listen == (Address(path=Path("/run/a.sock")),)
    assert config.http is None
    assert config.control == "explicit"
    assert config.state == Path("s")
    assert config.max_memory == 4 * 2**30
    assert config.allow_remote_plaintext
    assert config.log_level == "DEBUG"
    assert config.tls.options == TlsOptions(Path("c.pem"), Path("c.key"), Path("ca.pem"))
    assert config.tokens.options == TokenOptions(Path("p.tokens"), Path("c.tokens"))
    assert config.listener == ListenerOptions(
        max_connections=70,
        max_message_bytes=1 << 20,
        max_metadata_bytes=8 << 10,
        max_streams_per_connection=2000,
        keepalive_s=30.0,
        keepalive_timeout_s=5.5,
        min_ping_interval_s=1.0,
        drain_timeout_s=2.0,
        allow_remote_plaintext=True,
        socket=SocketOptions(0o660, "tickserve", "trading"),
    )
    assert config.settings == {
        "a": ModelSettings(Latest(2)),
        "b": ModelSettings(All()),
        "c": ModelSettings(Specific(frozenset({3, 5}))),
        "d": ModelSettings(Latest(1)),
        "e": ModelSettings(allow_contract_change=True, labels={"stable": 3, "canary-2": 4}),
        "f": DEFAULT_SETTINGS,
        "g": ModelSettings(max_calls=7),
    }
    assert config.limits.guard.max_streams == 9
    assert config.limits.data_plane == DataPlaneOptions(
        max_calls_in_flight=40,
        max_calls_per_model=30,
        max_input_bytes=20 << 20,
        turns=TurnsOptions(per_servable=1, at_once=3),
    )
    assert config.required == ("a",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modles = 'm'", "modles: unknown key; did you mean 'models'"),
        ("zzz = 1", "zzz: unknown key; known are models, listen, http, transport, control, "),
        ("models = 3", "models: expected a folder, came 3"),
        ("models = ''", "models: expected a folder, came ''"),
        ('state = "a\\u0000b"', r"state: expected a folder, came 'a\x00b'"),
        ("state = true", "state: expected a folder, came True"),
        ("control = 'watch'", "control: expected 'files' or 'explicit', came 'watch'"),
        ("control = true", "control: expected 'files' or 'explicit', came True"),
        ("max_memory = '4 GB'", """max_memory: expected bytes above 0, or such as "4 GiB" (of KiB, MiB"""),
        ("max_memory = 0", "max_memory: expected bytes above 0"),
        ("max_memory = 1.5", "max_memory: expected bytes above 0"),
        ("listen = 'unix:/a'", "listen: expected a list of addresses"),
        ("listen = [1]", "listen: expected a list of addresses"),
        ("listen = []", "listen: expected a list of addresses"),
        ("listen = ['nowhere']", "listen: nowhere: expected unix:/PATH or HOST:PORT"),
        ("http = 'unix:/a'", "http: expected HOST:PORT, or 'off', came 'unix:/a'"),
        ("http = 8002", "http: expected HOST:PORT, or 'off', came 8002"),
        ("tls.certificate = 'a'", "tls: expected a certificate and its key, came one of them"),
        ("tls.key = 'a'", "tls: expected a certificate and its key, came one of them"),
        ("tls.client_ca = 'a'", "tls: client_ca: expected a certificate and its key as well"),
        ("tls.key = ''", "tls.key: expected a file, came ''"),
        ("tls.certificat = 'a'", "tls.certificat: unknown key; did you mean 'certificate'"),
        ("tokens.predict = 'a'", "tokens: predict: expected control as well"),
        (
            "socket.mode = 0o660",
            'socket.mode: expected the mode of a file in octal, such as "0660", came',
        ),
        ("socket.mode = '0460'", "socket.mode: expected the mode of a file in octal"),
        ("socket.mode = '1660'", "socket.mode: expected the mode of a file in octal"),
        ("socket.group = ''", "socket.group: expected a name or number, came ''"),
        (
            "limits.max_message = '2 GiB'",
            "limits.max_message: expected 1048576 to 2147483647 bytes",
        ),
        ("limits.max_metadata = 100", "limits.max_metadata: expected 4096 to 1048576 bytes, came 100"),
        ("limits.max_connections = 0", "limits.max_connections: expected a whole number"),
        (
            "limits.max_streams_per_connection = 0",
            "max_streams_per_connection: expected a whole number",
        ),
        ("limits.keepalive_s = 0", "limits.keepalive_s: expected seconds above 0, at most 86400, came 0"),
        ("limits.keepalive_s = 86401", "limits.keepalive_s: expected seconds above 0, at most 86400"),
        ("limits.keepalive_s = nan", "limits.keepalive_s: expected seconds above 0, at most 86400"),
        ("tracing.sample_ratio = nan", "tracing.sample_ratio: expected a number from 0 to 1, came nan"),
        ("log_level = 'LOUD'", "log_level: expected DEBUG, INFO, WARNING or ERROR, came 'LOUD'"),
        ("allow_remote_plaintext = 'true'", "allow_remote_plaintext: expected true or false, came 'true'"),
        ("[model.a]\nversion = 'all'", r"model.a.version: unknown key; did you mean 'versions'"),
        ("[model.a]\nversions = 'newest'", 'model.a.versions: expected "latest"'),
        ("[model.a]\nversions = []", "model.a.versions: expected"),
        ("[model.a]\nversions = [0]", "model.a.versions: expected"),
        ("[model.a]\nrequired = 1", "model.a.required: expected true or false"),
        ("[model.a]\nallow_contract_change = 'yes'", "model.a.allow_contract_change: expected true or false"),
        ("[model.a]\nlabels = ['stable']", "model.a.labels: expected a table such as { stable = 3 }"),
        (
            "[model.a]\nlabels = { Stable = 3 }",
            "model.a.labels.Stable: label 'Stable': expected up to 32 of a-z",
        ),
        ("[model.a]\nlabels = { 3 = 3 }", "model.a.labels.3: label '3': expected up to 32 of a-z"),
        ("[model.a]\nlabels = { '' = 3 }", "model.a.labels.: label '': expected up to 32 of a-z"),
        ("[model.a]\nlabels = { a = 0 }", "model.a.labels.a: expected a version above 0, came 0"),
        ("[model.a]\nlabels = { a = true }", "model.a.labels.a: expected a version above 0, came True"),
        (
            "[model.a]\nlabels = { a = 9223372036854775808 }",
            "model.a.labels.a: expected a version above 0, came 9223372036854775808",
        ),
        ("[model.'../x']\nrequired = true", "model name '../x'"),
        ("model = 3", "model: expected a table, came 3"),
        ("model.a = 3", "model.a: expected a table, came 3"),
        ("models = ", "not a TOML file"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, text: str, told: str) -> None:
    """The error names file, key, what was expected and the nearest valid name."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config([file_layer(path)])
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is one clear line."""
    with pytest.raises(ConfigError, match=r"no\.toml: No such file"):
        file_layer(tmp_path / "no.toml")


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    """An operator with three mistakes needs one round, not three; each line names the file."""
    path = write(tmp_path, "modles = 'm'\nhttp = 3\n[model.a]\nrequired = 1")
    with pytest.raises(ConfigError) as caught:
        read_config([file_layer(path)])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)


def test_variables_say_what_the_file_can_say(tmp_path: Path) -> None:
    """Each key has a variable: text as it is, a number, true and a list as JSON has them."""
    assert from_variables(
        MODELS="m",
        LISTEN='["unix:/run/a.sock"]',
        HTTP="off",
        CONTROL="explicit",
        STATE="s",
        MAX_MEMORY="4 GiB",
        ALLOW_REMOTE_PLAINTEXT="true",
        LOG_LEVEL="debug",
        TLS__CERTIFICATE="c.pem",
        TLS__KEY="c.key",
        TLS__CLIENT_CA="ca.pem",
        TOKENS='{"predict": "p.tokens", "control": "c.tokens"}',
        SOCKET__MODE="0660",
        SOCKET__OWNER="tickserve",
        SOCKET__GROUP="trading",
        LIMITS__MAX_MESSAGE="1 MiB",
        LIMITS__MAX_METADATA="8 KiB",
        LIMITS__MAX_STREAMS_PER_CONNECTION="2000",
        LIMITS__KEEPALIVE_S="30",
        LIMITS__KEEPALIVE_TIMEOUT_S="5.5",
        LIMITS__MIN_PING_INTERVAL_S="1.0",
        LIMITS__DRAIN_TIMEOUT_S="2.0",
        MODEL__a__VERSIONS="latest 2",
        MODEL__a__REQUIRED="true",
        MODEL__b__VERSIONS="all",
        MODEL__c__VERSIONS="[3, 5]",
        MODEL__d__VERSIONS="latest",
        MODEL__e__ALLOW_CONTRACT_CHANGE="true",
        MODEL__e__LABELS__STABLE="3",
        MODEL__g__MAX_CALLS="7",
        LIMITS__MAX_CALLS="40",
        LIMITS__MAX_CALLS_PER_MODEL="30",
        LIMITS__MAX_INPUT_BYTES="20 MiB",
        LIMITS__RUNS_AT_ONCE="3",
        LIMITS__RUNS_PER_VERSION="1",
        LIMITS__MAX_STREAMS="9",
        LIMITS__MAX_CONNECTIONS="70",
        MODEL='{"f": {"required": false}, "e": {"labels": {"canary-2": 4}}}',
    ) == from_file(tmp_path, EVERY_KEY)


def test_a_number_may_be_a_name() -> None:
    """What is a text in the file is not read as a number from a variable."""
    assert from_variables(MODELS="3").models == Path("3")
    assert from_variables(HTTP="[::1]:8002").http == Address("::1", 8002)


def test_the_case_of_a_models_name_counts() -> None:
    """Keys are written in capitals in a variable; a model's name is the model's own."""
    assert from_variables(MODEL__Mean_Rev__REQUIRED="true").required == ("Mean_Rev",)


def test_a_variable_of_one_key_wins_over_one_of_the_table() -> None:
    """Where a table is given as JSON and a key of it alone as well, the key alone counts, in any order."""
    table, key = ("MODEL", '{"a": {"versions": "all", "required": true}}'), ("MODEL__a__VERSIONS", "latest 2")
    for variables in ({table[0]: table[1], key[0]: key[1]}, {key[0]: key[1], table[0]: table[1]}):
        config = from_variables(**variables)
        assert (config.model["a"].versions, config.required) == (Latest(2), ("a",))


def test_an_empty_variable_says_nothing() -> None:
    """A manifest that leaves a variable empty gets the default."""
    assert from_variables(MODELS="", ZZZ="") == read_config([])


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    """The nearer to the person who starts it, the stronger; what a stronger one leaves open stands."""
    text = "models = 'file'\nhttp = '127.0.0.1:1'\ncontrol = 'explicit'\n[model.a]\nrequired = true\n"
    flags = named_layer(
        {
            ("models",): ("--models", "flag"),
            ("model", "a", "allow_contract_change"): ("--allow-contract-change", True),
        }
    )
    variables = environment(MODELS="variable", HTTP="127.0.0.1:2", MODEL__a__VERSIONS="all")
    layers = [flags, variables, file_layer(write(tmp_path, text))]
    config = read_config(layers)
    assert (config.models, config.http, config.control) == (
        *(Path("flag"), Address("127.0.0.1", 2)),
        "explicit",
    )
    assert config.required == ("a",)
    assert config.settings == {"a": ModelSettings(All(), allow_contract_change=True)}
    file = str(tmp_path / "tickserve.toml")
    origins = {".".join(place): origin for place, _, origin in effective(config, layers)}
    assert (
        origins.items()
        >= {
            "models": "--models",
            "listen": "default",
            "http": "TICKSERVE_HTTP",
            "control": file,
            "state": "default",
            "max_memory": "default",
            "allow_remote_plaintext": "default",
            "log_level": "default",
            "model.a.versions": "TICKSERVE_MODEL__a__VERSIONS",
            "model.a.required": file,
            "model.a.allow_contract_change": "--allow-contract-change",
        }.items()
    )


def test_shared_memory_is_off_until_it_is_turned_on() -> None:
    """Bounds alone turn nothing on; with `enabled` they are those that the sidecar is told."""
    bounds = {"SHARED_MEMORY__MAX_REGIONS": "2", "SHARED_MEMORY__MAX_REGION_BYTES": "1 MiB"}
    assert from_variables(**bounds).shared_memory.options is None
    turned_on = from_variables(
        SHARED_MEMORY__ENABLED="true", SHARED_MEMORY__MAX_TOTAL_BYTES="2 MiB", **bounds
    )
    assert turned_on.shared_memory.options == SharedMemoryOptions(2, 2**20, 2**21)
    assert from_variables(SHARED_MEMORY__ENABLED="true").shared_memory.options == SharedMemoryOptions()


def test_the_page_is_told_its_names() -> None:
    """Names by which browsers reach the status page are a list, and refused where they are no names."""
    assert from_variables().page.options == PageOptions()
    said = from_variables(PAGE__HOSTS='["trading.example", "box12"]')
    assert said.page.options.hosts == ("trading.example", "box12")
    for wrong in ('["http://trading.example"]', '["trading.example:8002"]', '[""]', "[1]", "trading.example"):
        with pytest.raises(ConfigError, match="expected a list of names without ports"):
            from_variables(PAGE__HOSTS=wrong)


def test_traces_go_where_they_are_sent() -> None:
    """Without an endpoint the environment decides; a ratio may be written as a whole number too."""
    assert from_variables().tracing.options == TracingOptions()
    said = from_variables(TRACING__ENDPOINT="https://collector:4317", TRACING__SAMPLE_RATIO="0.25")
    assert said.tracing.options == TracingOptions("https://collector:4317", 0.25)
    assert from_variables(TRACING__SAMPLE_RATIO="1").tracing.options == TracingOptions("", 1.0)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("TRACING__ENDPOINT", "collector:4317", "TICKSERVE_TRACING__ENDPOINT: expected http://HOST:PORT or "),
        ("TRACING__SAMPLE_RATIO", "1.5", "TICKSERVE_TRACING__SAMPLE_RATIO: expected a number from 0 to 1"),
        ("TRACING__SAMPLE_RATIO", "NaN", "TICKSERVE_TRACING__SAMPLE_RATIO: expected a number from 0 to 1"),
        ("MAX_MEMROY", "1", "TICKSERVE_MAX_MEMROY: unknown key; did you mean 'TICKSERVE_MAX_MEMORY'?"),
        ("", "1", "TICKSERVE_: unknown key; known are models, "),
        ("HTTP_PORT", "8002", "TICKSERVE_HTTP_PORT: unknown key; did you mean 'TICKSERVE_HTTP'?"),
        ("MAX_MEMORY", "4 GB", "TICKSERVE_MAX_MEMORY: expected bytes above 0"),
        ("LISTEN", "unix:/a", "TICKSERVE_LISTEN: expected a list of addresses, such as ["),
        ("LISTEN", "[unix:/a]", "TICKSERVE_LISTEN: expected a list of addresses, such as ["),
        ("MODELS__A", "1", "TICKSERVE_MODELS__A: expected a folder, came {'a': '1'}"),
        ("MODEL", "momentum", "TICKSERVE_MODEL: expected a table, came 'momentum'"),
        (
            "MODEL",
            '{"a": {"version": 1}}',
            "TICKSERVE_MODEL: a.version: unknown key; did you mean 'versions'?",
        ),
        (
            "MODEL",
            '{"a": {"required": "yes"}}',
            "TICKSERVE_MODEL: a.required: expected true or false, came 'yes'",
        ),
        ("MODEL__a__REQUIRED", "yes", "TICKSERVE_MODEL__a__REQUIRED: expected true or false, came 'yes'"),
        ("MODEL__a__REQUIRED", "1", "TICKSERVE_MODEL__a__REQUIRED: expected true or false, came '1'"),
        (
            *("MODEL__a__VERSION", "all"),
            "TICKSERVE_MODEL__a__VERSION: unknown key; did you mean 'TICKSERVE_MODEL__a__VERSIONS'?",
        ),
        ("MODEL__a__b__REQUIRED", "true", "TICKSERVE_MODEL__a__b__REQUIRED: unknown key; known are versions"),
        ("MODEL__.a__REQUIRED", "true", "TICKSERVE_MODEL__.a__REQUIRED: model name '.a'"),
        ("MODEL__a__LABELS__STABLE", "0", "TICKSERVE_MODEL__a__LABELS__STABLE: expected a version above 0"),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str, told: str) -> None:
    """The error names the variable, what was expected and the nearest valid name."""
    with pytest.raises(ConfigError) as caught:
        from_variables(**{name: text})
    assert str(caught.value).startswith(told)


def test_a_wrong_flag_is_named() -> None:
    """What a flag says is told by the flag's own name, also where it is a key of a table."""
    flags = {
        ("max_memory",): ("--max-memory", "4 GB"),
        ("model", "../x", "allow_contract_change"): ("--allow-contract-change", True),
    }
    with pytest.raises(
        ConfigError, match=r"--max-memory: expected bytes.*\n--allow-contract-change: model name"
    ):
        read_config([named_layer(flags)])


def test_a_long_value_is_cut_in_the_text() -> None:
    """F10: what is told of a wrong value stays short, however long the value is."""
    with pytest.raises(ConfigError) as caught:
        from_variables(MAX_MEMORY="9" * 100_000)
    assert len(str(caught.value)) < 400


def test_the_service_links_of_kubernetes_are_none_of_ours() -> None:
    """A Service that is called tickserve, or tickserve-http, does not stop the sidecar beside it."""
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8001",
        "SERVICE_PORT_GRPC": "8001",
        "PORT": "tcp://10.0.0.1:8001",
        "PORT_8001_TCP": "tcp://10.0.0.1:8001",
        "PORT_8001_TCP_PROTO": "tcp",
        "PORT_8001_TCP_PORT": "8001",
        "PORT_8001_TCP_ADDR": "10.0.0.1",
        "HTTP_SERVICE_HOST": "10.0.0.2",
        "HTTP_SERVICE_PORT": "8002",
        "HTTP_PORT": "tcp://10.0.0.2:8002",
        "HTTP_PORT_8002_TCP_ADDR": "10.0.0.2",
    }
    assert environment(**links).values == {}


def test_what_other_commands_read_is_not_refused() -> None:
    """The variables of the commands that call a sidecar may be set where one is started."""
    assert environment(TARGET="unix:/a", CONFIG="/etc/tickserve.toml").values == {}


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        ("1048576", 2**20),
        ("1 KiB", 2**10),
        ("512 MiB", 512 * 2**20),
        ("4GiB", 4 * 2**30),
        ("2 TiB", 2 * 2**40),
    ],
)
def test_bytes_are_an_integer_or_have_a_unit(value: object, n_bytes: int) -> None:
    """A bound on memory is written as an integer, or with a binary unit after it."""
    assert bytes_of(value) == n_bytes


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 2**63, 1.0, True, None),
        *("", "0", "GiB", "-1 GiB", "1.5 GiB", "4 GB", "4 gib", "4  GiB", " 4", "4\n", "\uff19"),
        *("9223372036854775808", "8388608 TiB", "9" * 20),
    ],
)
def test_what_is_no_number_of_bytes_is_refused(value: object) -> None:
    """Another unit, a fraction, nothing, or more than 64 bits hold: refused, with what was expected."""
    with pytest.raises(PydanticCustomError, match='expected bytes above 0, or such as "4 GiB"'):
        bytes_of(value)


@pytest.mark.parametrize("label", ["a", "stable", "canary-2", "a_b", "a" * 32])
def test_labels_are_short_plain_words(label: str) -> None:
    """A label is a lower-case word that travels in any protocol."""
    check_label(label)


@pytest.mark.parametrize("label", ["", "A", "3", "-a", "a b", "a.b", "a\n", "ä", "a" * 33, "x" * 100_000])
def test_what_is_no_label_is_refused(label: str) -> None:
    """D13: what could be taken for a version, or does not travel, is refused in a text that stays short."""
    with pytest.raises(LabelError, match=r"label '.*expected up to 32 of a-z 0-9 _ -") as caught:
        check_label(label)
    assert len(str(caught.value)) < 200
