"""Files that are not what anybody meant: each is told in one line, with its place, and none holds us up."""

import os
import threading
from pathlib import Path

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.factory import StrategyFactory
from strategy_client.store.document import Document
from strategy_client.store.section import MAX_BYTES
from strategy_client.store.strategy_file import MAX_FILES, read_strategies, strategy_files
from strategy_client.store.yaml_store import YamlStore, YamlStoreOptions

WAIT_S = 60.0
ONE = "strategy_name: a\nstrategy_type: momentum\ninstrument_tokens: [1]\n"


def problems(tmp_path, content):
    file = tmp_path / "s.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        read_strategies(file, StrategyFactory())
    lines = str(caught.value).replace(f"{tmp_path}{os.sep}", "").splitlines()
    assert len(lines) == len(caught.value.problems)
    return lines


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "parameters: !!python/object/apply:os.system ['true']\n",
            "s.yaml:4:13: not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("parameters: !own {lookback_periods: 5}\n", "s.yaml:4:13: not YAML: could not determine a"),
        ("tags: !own [a]\n", "s.yaml:4:7: not YAML: could not determine a constructor for the tag '!own'"),
        ("tags: !!set {a, b}\n", "s.yaml:4:7: not YAML: could not determine a constructor for the tag"),
        ("parameters: !!str {a: 1}\n", "s.yaml:4:13: not YAML: could not determine a constructor"),
    ],
    ids=["python", "own mapping", "own list", "set", "text of a mapping"],
)
def test_a_tag_that_we_do_not_know(tmp_path, more, said):
    """H9: a mapping or a list with a tag is refused where it stands, and not read as if there were none."""
    assert problems(tmp_path, ONE + more)[0].startswith(said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (b"description: \xe9\n", "s.yaml:4:14: not YAML: expected text in UTF-8, came the byte 0xe9"),
        (b"# \xc3\xa9\n# \xff\n", "s.yaml:5:3: not YAML: expected text in UTF-8, came the byte 0xff"),
        ("# é\n# é\x07\n".encode(), "s.yaml:5:4: not YAML: unacceptable character #x0007"),
    ],
    ids=["latin-1", "after another", "control"],
)
def test_a_character_that_is_none_is_told_with_its_line(tmp_path, more, said):
    """H9: a byte that is no UTF-8, and a character that may not be there, are told with line and column."""
    assert problems(tmp_path, ONE.encode() + more)[0].startswith(said)


def test_a_broken_file_in_utf_16_is_told_without_a_line(tmp_path):
    """H9: where two bytes are a character, no line is counted out of single ones."""
    (line,) = problems(tmp_path, (ONE + "description: \x07\n").encode("utf-16"))
    assert line.startswith("s.yaml: not YAML: unacceptable character #x0007")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf" + ONE.encode(), ONE.replace("\n", "\r\n").encode(), ONE.encode("utf-16")],
    ids=["byte order mark", "carriage returns", "UTF-16"],
)
def test_a_file_of_another_editor_is_read(tmp_path, content):
    """What an editor elsewhere makes of line ends and encodings is the same strategy."""
    (tmp_path / "s.yaml").write_bytes(content)
    (strategy,) = read_strategies(tmp_path / "s.yaml", StrategyFactory()).strategies
    assert (strategy.strategy_id, strategy.instrument_tokens) == ("a", (1,))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            'description: "\\ud800"\n',
            "s.yaml:4:1: description: expected characters of Unicode, came '\\ud800'",
        ),
        ('"\\ud800": 1\n', "s.yaml:4:1: '\\ud800': expected characters of Unicode in the key"),
        ('"a\\nb\\e[31m": 1\n', "s.yaml:4:1: 'a\\nb\\x1b[31m': unknown key"),
        (f"? {'k' * 500}\n: 1\n", f"s.yaml:4:3: {'k' * 200}...: unknown key"),
        ("instruments: [" + "9" * 5000 + "]\n", "s.yaml:4:15: not YAML: '" + "9" * 199 + "... is no int"),
        ('description: "\\UFFFFFFFF"\n', "s.yaml: not YAML: "),
        ('description: "\\U00110000"\n', "s.yaml: not YAML: "),
        (
            ONE.join(("---\n", "")),
            "s.yaml:4:1: not YAML: expected a single document in the stream, but found",
        ),
        ("tags: &a [x]\ndescription: &a y\n", "s.yaml:5:14: not YAML: found duplicate anchor 'a'"),
    ],
    ids=[
        "half a pair",
        "half a pair as key",
        "key of two lines",
        "long key",
        "long number",
        "too large a character",
        "no character",
        "two documents",
        "anchor twice",
    ],
)
def test_what_would_break_a_message_or_a_record(tmp_path, more, said):
    """H9: what no file can hold is refused, and a message stays one short line, whatever the key is."""
    lines = problems(tmp_path, ONE + more)
    assert any(line.startswith(said) for line in lines), lines
    assert max(map(len, lines)) < 600


def test_a_merge_that_stands_twice(tmp_path):
    """H9: `<<` stands once like any key, or one of the two would be lost."""
    lines = problems(tmp_path, "<<: {tags: [a]}\n<<: {tags: [b]}\n" + ONE)
    assert lines == ["s.yaml:2:1: <<: stands twice, in lines 1 and 2; expected one list"]


def test_a_key_of_its_own_is_told_in_its_own_line(tmp_path):
    """H9: where a merge stands below a key that it does not replace, what is wrong is told with that key."""
    text = (
        "strategies:\n- &base\n  strategy_name: a\n  strategy_type: momentum\n  instrument_tokens: [1]\n"
        "- instrument_tokens: [0]\n  strategy_name: b\n  <<: *base\n"
    )
    (line,) = problems(tmp_path, text)
    assert line.startswith("s.yaml:6:23: strategies[1].instrument_tokens[0]: expected an instrument token")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, ":1:1: expected a mapping, came nothing (null)"),
        (lambda file: file.mkdir(), ": cannot be read: Is a directory"),
        (lambda file: file.symlink_to(file.name), ": cannot be read: Too many levels of symbolic links"),
        (lambda file: file.symlink_to("gone"), ": cannot be read: No such file or directory"),
    ],
    ids=["pipe", "folder", "loop", "link to nothing"],
)
def test_what_is_no_file_holds_nothing_up(tmp_path, make, said):
    """H9: a pipe that nobody writes into, a folder, a loop of links: each is told, and none is waited for."""
    (tmp_path / "a.yaml").write_text(ONE)
    store = YamlStore(tmp_path, StrategyFactory(), YamlStoreOptions(settled_s=0.0, events=False))
    before = store.read()
    make(tmp_path / "b.yaml")
    now = store.read_again(before)
    store.close()
    assert now.strategies == before.strategies
    assert [str(problem) for problem in now.problems] == [f"{tmp_path / 'b.yaml'}{said}"]


def test_a_pipe_that_somebody_writes_into_is_read():
    """A file may come out of another program: what it writes is waited for and read to its end."""
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "w") as file:  # more than a pipe holds at once
            file.write(f"#{'x' * 300_000}\n{ONE}")

    writer = threading.Thread(target=write)
    writer.start()
    now = read_strategies(Path(f"/dev/fd/{reading}"), StrategyFactory())
    writer.join(WAIT_S)
    os.close(reading)
    assert [each.strategy_id for each in now.strategies] == ["a"]


def test_what_an_editor_leaves_beside_a_file_is_no_strategy(tmp_path):
    """Swap files, locks and copies of editors are left alone."""
    (tmp_path / "a.yaml").write_text(ONE)
    for name in (".a.yaml.swp", "a.yaml~", "#a.yaml#", "4913", "a.yaml.tmp", "a.yaml.bak", ".#b.yaml"):
        (tmp_path / name).write_text("{")
    assert len(read_strategies(tmp_path, StrategyFactory()).strategies) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "risk_limits: {risk_multiplier: '1e-400'}\n",
            "s.yaml:4:15: risk_limits.risk_multiplier: expected a number",
        ),
        (
            "risk_limits: {risk_multiplier: '1e400'}\n",
            "s.yaml:4:15: risk_limits.risk_multiplier: expected a number",
        ),
        (
            "risk_limits: {max_position_size: '1e400'}\n",
            "s.yaml:4:15: risk_limits.max_position_size: expected a",
        ),
        (
            "parameters: {emission: {cooldown_s: '1e999'}}\n",
            "s.yaml:4:25: parameters.emission.cooldown_s: expected a number of seconds, 0 or more",
        ),
        (
            "parameters: {emission: {cooldown_s: .nan}}\n",
            "s.yaml:4:25: parameters.emission.cooldown_s: expected a number of seconds, 0 or more, came nan",
        ),
    ],
    ids=["next to nothing", "too large", "too large a size", "without end", "no number"],
)
def test_a_number_that_no_float_holds(tmp_path, more, said):
    """H9: a limit or a pause that a float would make 0 or infinite is refused where it stands."""
    assert problems(tmp_path, ONE + more)[0].startswith(said)


def test_a_place_that_is_not_there_is_told_at_the_nearest_that_is():
    """H9: what is missing deep in a mapping is told with the line of the innermost key around it."""
    marks = {("a",): (3, 1), ("a", "b"): (4, 3)}
    problem = Document(Path("s.yaml"), None, marks).problem(("a", "b", "c", "d"), "is missing")
    assert str(problem) == "s.yaml:4:3: a.b.c.d: is missing"


def test_the_bounds_of_a_file_and_a_folder(tmp_path):
    """A file of as many bytes as there may be is read, and a folder of as many files; no more of either."""
    file = tmp_path / "0000.yaml"
    file.write_text(ONE + "#" * (MAX_BYTES - len(ONE)))
    assert len(read_strategies(file, StrategyFactory()).strategies) == 1
    for number in range(1, MAX_FILES):
        (tmp_path / f"{number:04}.yaml").touch()
    assert len(strategy_files(tmp_path)) == MAX_FILES
    (tmp_path / "one_more.yml").touch()
    with pytest.raises(ConfigurationError, match="expected 1 to 1000 files"):
        strategy_files(tmp_path)


def test_a_stop_below_a_list_in_a_file_that_is_broken(tmp_path):
    """In a file that is no YAML a stop counts for its strategy, also below a list of the strategy's own."""
    item = "strategies:\n- " + ONE.replace("\n", "\n  ").rstrip(" ")
    (tmp_path / "a.yaml").write_text(item)
    store = YamlStore(tmp_path, StrategyFactory(), YamlStoreOptions(settled_s=0.0, events=False))
    before = store.read()
    (tmp_path / "a.yaml").write_text(
        f"{item}  levels:\n    - at: 1\n      strategy_name: b\n  enabled: false\n  broken: [\n"
    )
    now = store.read_again(before)
    store.close()
    assert [(each.strategy_id, each.enabled) for each in now.strategies] == [("a", False)]


def test_a_folder_that_is_gone_is_told_once(tmp_path):
    """A folder without files is a change when it becomes so, and none for as long as it stays so."""
    (tmp_path / "a.yaml").write_text(ONE)
    store = YamlStore(tmp_path, StrategyFactory(), YamlStoreOptions(settled_s=0.0, events=False))
    before = store.read()
    (tmp_path / "a.yaml").unlink()
    assert store.wait_for_change(0.0)
    assert store.read_again(before).strategies == before.strategies
    assert not store.wait_for_change(0.0)
    store.close()
