"""What a URL says of a bus, and how a wrong one is told."""

import sys
from pathlib import Path

import pytest

from strategy_client.buses.opening import open_inbox, open_outbox
from strategy_client.buses.place import Place, read_place
from strategy_client.configuration import ConfigurationError

KAFKA = "kafka://HOST:PORT[,HOST:PORT]/?topic=..."


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("-", ("-", (), None, None, "", {})),
        ("ticks.jsonl", ("file", (), None, None, "ticks.jsonl", {})),
        ("/a/b?c.jsonl", ("file", (), None, None, "/a/b?c.jsonl", {})),
        ("file:a.jsonl?follow=yes", ("file", (), None, None, "a.jsonl", {"follow": "yes"})),
        ("file:///a.jsonl", ("file", (), None, None, "/a.jsonl", {})),
        (
            "kafka://a:1,b/?topic=t&group=g",
            ("kafka", (("a", 1), ("b", 9092)), None, None, "", {"topic": "t", "group": "g"}),
        ),
        ("redis://h", ("redis", (("h", 6379),), None, None, "0", {})),
        ("redis://:p%40ss@h:1/3?stream=s", ("redis", (("h", 1),), "", "p@ss", "3", {"stream": "s"})),
        ("nats://u:p@[::1]:4", ("nats", (("::1", 4),), "u", "p", "", {})),
        ("amqp://u:p@h/%2Fv", ("amqp", (("h", 5672),), "u", "p", "/v", {})),
        ("AMQP://h", ("amqp", (("h", 5672),), None, None, "/", {})),
    ],
)
def test_each_part_of_a_url_has_its_place(url: str, place: tuple):
    """Hosts, ports, login, path and options are read as they are meant, each with its default."""
    read = read_place(url, "--source", "source")

    assert (read.scheme, read.hosts, read.user, read.password, read.path, dict(read.options)) == place


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "'': expected a path, as in file:/var/lib/ticks.jsonl"),
        ("file:", "'file:': expected a path"),
        ("file://host/a", "'file://host/a': expected a path"),
        (
            "kafak://h",
            "expected kafka://, redis://, nats://, amqp://, a file's path or -, came kafak:// (did you",
        ),
        ("kafka://", f"expected {KAFKA}, came '' as HOST:PORT"),
        ("kafka://h:0", f"expected {KAFKA}, came 'h:0' as HOST:PORT"),
        ("kafka://h:70000", "came 'h:70000' as HOST:PORT"),
        ("kafka://h:x", "came 'h:***' as HOST:PORT"),
        ("kafka://a b:1", "came 'a b:1' as HOST:PORT"),
        ("kafka://h/topic", f"kafka://h:9092: expected {KAFKA}, came the path /topic"),
        ("redis://a,b", "expected one HOST:PORT, came 2"),
        (
            "redis://h/x",
            "redis://h:6379: expected redis://HOST:PORT/DB?stream=... with a number as DB, came 'x'",
        ),
        (
            "kafka://h?topik=t",
            "kafka://h:9092: topik: no such option (did you mean 'topic'?); expected one of topic",
        ),
        ("kafka://h?topic=a&topic=b", "topic: stands twice"),
        ("kafka://h?topic=", "topic: expected a value, came nothing"),
        ("kafka://h?topic", "expected options as name=value&name=value behind the ?"),
        ("kafka://h?max_age=5", "max_age: no such option"),
    ],
)
def test_a_wrong_part_of_a_url_is_named(url: str, text: str):
    """What is wrong is told with what came, what was expected and the nearest name that there is."""
    with pytest.raises(ConfigurationError) as raised:
        read_place(url, "--source", "source")

    assert str(raised.value).startswith("--source: ")
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "kafak://u:s3cret@h",
        "kafka://u:s3cret@h:0",
        "kafka://u:s3cret@h/topic",
        "redis://:s3cret@a,b",
        "redis://u:s3cret@h?x=1",
        "amqp://u:s3cret@h:x/v",
        "kafak://u:s3cret/h@h",
        "kafka://u:s3cret/h@h",
        "kafka://u:1/s3cret@h",
        "kafka://u:s3cret?h@h",
        "redis://u:p@s3cret@h:x",
        "redis://u:s3cret",
        "redis://u:s3cret/0?stream=s",
        "nats://a:1,u:s3cret",
        "redis:/u:s3cret@h",
        "redis//u:s3cret@h",
        "redis:u:s3cret@h",
        " redis://u:s3cret@h",
        "u:s3cret@h:6379",
        "//u:s3cret@h",
    ],
)
def test_a_password_is_in_no_error(url: str):
    """However wrong a URL is, its password is not in the text that is printed and logged."""
    with pytest.raises(ConfigurationError) as raised:
        read_place(url, "--sink", "sink")

    assert "s3cret" not in str(raised.value)


def test_a_password_is_in_no_name_of_a_place():
    """What a place is called in logs and errors has its address only."""
    place = read_place("redis://u:s3cret@h:1/2?stream=s", "--sink", "sink")

    assert str(place) == "redis://h:1"
    assert "s3cret" not in repr(place)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("n", "0", Place.whole),
        ("n", "-1", Place.whole),
        ("n", "1.5", Place.whole),
        ("n", "²", Place.whole),
        ("n", "99999999999", Place.whole),
        ("n", "0", Place.seconds),
        ("n", "nan", Place.seconds),
        ("n", "inf", Place.seconds),
        ("n", "soon", Place.seconds),
    ],
)
def test_a_number_that_is_none_is_refused(name: str, value: str, read):
    """Options that are numbers are refused where they are not, or have no sense."""
    place = Place("--sink", "redis", (("h", 1),), options={name: value})

    with pytest.raises(ConfigurationError, match=f"--sink: redis://h:1: {name}: expected .*, came '{value}'"):
        read(place, name, 1)


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("kafka://h", "confluent_kafka", "kafka"),
        ("redis://h", "redis", "redis"),
        ("nats://h", "nats", "nats"),
        ("amqp://h", "pika", "rabbitmq"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, library: str, extra: str
):
    """Without its library a bus is refused at once, with what to install."""
    for module in [name for name in sys.modules if name.startswith("strategy_client.buses.")]:
        if module.rsplit(".", 1)[1] in {"kafka", "redis_stream", "jetstream", "rabbitmq"}:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    place = read_place(url, "--source", "source")

    for open_end in (lambda: open_inbox(place, newest=True), lambda: open_outbox(place, "paper")):
        with pytest.raises(ConfigurationError, match=f"needs {library}: pip install 'tickserve.{extra}.'"):
            open_end()


def test_a_path_that_looks_like_a_login_can_be_a_file(tmp_path: Path):
    """A file that is there, or that is called one, is a file whatever its name."""
    path = tmp_path / "9:30@nyse.jsonl"
    assert read_place(f"file:{path}", "--sink", "sink").path == str(path)
    path.touch()
    assert read_place(str(path), "--sink", "sink").path == str(path)
