"""Whatever is done to a folder of strategies, what runs is what the rules say."""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from strategy_client.factory import StrategyFactory
from strategy_client.store.yaml_store import YamlStore, YamlStoreOptions

FILES = ("1.yaml", "2.yaml", "3.yml")
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Content:
    """What a file is made to hold: `kind` right, wrong, nameless, broken or gone."""

    kind: str
    name: str = ""
    lookback: int = 5
    enabled: bool = True

    def text(self):
        name = "" if self.kind == "nameless" else f"strategy_name: {self.name}\n"
        tokens = "[]" if self.kind == "wrong" else "[1]"
        broken = "tags: [\n" if self.kind == "broken" else ""
        return (
            f"{name}strategy_type: momentum\nenabled: {str(self.enabled).lower()}\n{broken}"
            f"instrument_tokens: {tokens}\nparameters: {{lookback_periods: {self.lookback}}}\n"
        )

    @property
    def names_a_strategy(self):
        return self.kind in ("right", "wrong")

    @property
    def is_unsure(self):
        return self.kind in ("nameless", "broken")


CONTENTS = st.builds(
    Content,
    st.sampled_from(("right", "right", "wrong", "nameless", "broken", "gone")),
    st.sampled_from(NAMES),
    st.integers(2, 9),
    st.booleans(),
)
EDITS = st.lists(st.tuples(st.sampled_from(FILES), CONTENTS), min_size=1, max_size=12)


class Rules:
    """The rules in the words of docs/strategies.md, on plain values."""

    def __init__(self, files):
        self.files = dict(files)
        self.running = {each.name: (each.lookback, each.enabled) for each in files.values()}
        self.origin = {each.name: file for file, each in files.items()}

    def settle(self):
        there = {file: each for file, each in sorted(self.files.items()) if each.kind != "gone"}
        if not there:
            return
        named = Counter(each.name for each in there.values() if each.names_a_strategy)
        after = {}
        for file, each in there.items():
            if not each.names_a_strategy:
                continue
            if each.kind == "right" and named[each.name] == 1:
                after[each.name] = (each.lookback, each.enabled)
            elif each.name in self.running:
                lookback, enabled = after.get(each.name, self.running[each.name])
                after[each.name] = (lookback, enabled and each.enabled)
            else:
                continue
            self.origin[each.name] = file
        for name, (lookback, enabled) in self.running.items():
            content = there.get(self.origin[name])
            if name in after or content is None or not content.is_unsure:
                continue
            stops = content.kind == "nameless" and not content.enabled
            after[name] = (lookback, enabled and not stops)
        self._stop_by_broken_files(there, after)
        self.running = after

    def _stop_by_broken_files(self, there, after):
        for file, each in there.items():
            if each.kind == "broken" and not each.enabled:
                held = [name for name in after if self.origin[name] == file]
                for name in [each.name] if each.name in after else held:
                    after[name] = (after[name][0], False)


def apply(folder, file, content, moments):
    path = folder / file
    if content.kind == "gone":
        path.unlink(missing_ok=True)
        return
    new = folder / ".new"
    new.write_text(content.text(), encoding="utf-8")
    moment = next(moments)
    os.utime(new, ns=(moment, moment))
    new.rename(path)


def shown(now):
    return {each.strategy_id: (each.parameters["lookback_periods"], each.enabled) for each in now.strategies}


@settings(deadline=None, max_examples=100)
@given(EDITS)
def test_any_edits_give_what_the_rules_say(edits):
    """Any sequence of edits, good and bad: what runs is what the rules say, and between them only stops."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = {file: Content("right", strategy) for file, strategy in zip(FILES[:2], NAMES, strict=False)}
        moments = count(10**18, 10**9)
        for file, content in first.items():
            apply(folder, file, content, moments)
        clock = [0]
        store = YamlStore(folder, StrategyFactory(), YamlStoreOptions(settled_s=1.0), lambda: clock[0])
        rules = Rules(first)
        now = store.read()
        for file, content in edits:
            apply(folder, file, content, moments)
            rules.files[file] = content
            before = shown(now)
            now = store.read_again(now)
            between = shown(now)
            assert between.keys() == before.keys()
            for each, (lookback, enabled) in between.items():
                assert lookback == before[each][0]
                assert before[each][1] or not enabled
            rules.running = between
            clock[0] += 10**9
            now = store.read_again(now)
            rules.settle()
            assert shown(now) == rules.running
            assert all(content.kind != "right" for content in rules.files.values()) <= bool(now.problems)
        store.close()
