"""What operators do, in any order and with restarts between: everything comes to rest, and rightly."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_server.core.errors import NotFoundError, RefusedError
from inference_server.core.servable import ServableId
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.model_versions import Load, Retire
from inference_server.serving.policy import All, Latest, Specific
from inference_server.serving.repository import Candidate, Source
from inference_server.serving.settings import ModelSettings

# More than any history of these can need: two loads and a retirement for each version, and one for the pin.
MAX_ACTIONS = 24
VERSIONS = st.integers(1, 3)
FOUND = st.dictionaries(VERSIONS, st.sampled_from(["a", "b", "c", "bad"]), max_size=3)
POLICIES = st.one_of(
    st.builds(Latest, st.integers(1, 2)),
    st.just(All()),
    st.builds(Specific, st.frozensets(VERSIONS, min_size=1)),
)
SETTINGS = st.builds(
    ModelSettings, policy=POLICIES, labels=st.dictionaries(st.just("canary"), VERSIONS, max_size=1)
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("found"), FOUND),
        st.tuples(st.just("found"), FOUND),
        st.tuples(st.just("change"), SETTINGS),
        st.tuples(st.just("act"), st.integers(1, 4)),
        st.tuples(st.just("finish"), st.none()),
        st.tuples(st.just("rest"), st.none()),
        st.tuples(st.just("rest"), st.none()),
        st.tuples(st.just("rollback"), st.none()),
        st.tuples(st.just("rollback"), st.none()),
        st.tuples(st.just("begin_rollback"), st.none()),
        st.tuples(st.just("resume"), st.none()),
        st.tuples(st.just("label"), VERSIONS),
        st.tuples(st.just("unlabel"), st.none()),
        st.tuples(st.just("unload"), st.none()),
        st.tuples(st.just("load"), FOUND),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("restart_on_bad"), st.frozensets(VERSIONS, min_size=1)),
        st.tuples(st.just("lose_kept"), st.none()),
    ),
    max_size=25,
)


class World:
    """One model, and a shell and an archive that do what its life cycle says."""

    def __init__(self, *, explicit):
        self.explicit = explicit
        self.settings = ModelSettings()
        self.files = {}
        self.archive = set()
        self.stamps = 0
        self.begin({})

    def begin(self, remembered):
        self.lifecycle = Lifecycle({"m": self.settings}, remembered=remembered, explicit=self.explicit)
        self.served = {}
        self.loading = None
        self.must_answer = False

    @property
    def model(self):
        return self.lifecycle.model("m")

    def take(self, event, what):
        with contextlib.suppress(NotFoundError, RefusedError):
            getattr(self, event)(what)

    # Events.

    def found(self, files):
        self.files = files
        self.lifecycle.found(self.candidates(files), {})

    def load(self, files):
        if self.explicit:
            self.stamps += 1
            found = {it.id.version: it for it in self.candidates(files, Source.UPLOAD)}
            self.lifecycle.load("m", found, ())

    def unload(self, _):
        if self.explicit:
            self.lifecycle.unload("m")
            self.must_answer = False

    def change(self, settings):
        self.settings = settings
        self.lifecycle.set_settings({"m": settings})

    def rollback(self, _):
        before = dict(self.served)
        done = self.lifecycle.roll_back("m")
        assert before[done.back_from.version] == done.back_from.digest
        assert done.back_to.digest != done.back_from.digest
        assert done.back_from.version in self.served
        self.check_rollback(done)

    def begin_rollback(self, _):
        self.lifecycle.roll_back("m")

    def check_rollback(self, done):
        """Let nothing else happen until it has come about: callers get the one or the other, nothing else."""
        default = self.model.default_version()
        for _ in range(MAX_ACTIONS):
            got = (default, self.served[default])
            if not self.model.rolling_back:
                break
            assert got == (done.back_from.version, done.back_from.digest), "a third version answers"
            self.act(1)
            self.finish(None)
            default = self.model.default_version()
        assert not self.model.rolling_back, "a rollback that does not end"
        expected = done.back_from if self.model.rollback_failure else done.back_to
        assert got == (expected.version, expected.digest)
        self.act(MAX_ACTIONS)

    def resume(self, _):
        self.lifecycle.resume("m")

    def label(self, version):
        self.lifecycle.set_label("m", "stable", version)

    def unlabel(self, _):
        self.lifecycle.remove_label("m", "stable")

    def restart(self, _):
        self.begin({"m": self.model.remembered} if self.model else {})
        self.found(self.files)

    def restart_on_bad(self, versions):
        """Start where none but bad files lie: what callers got last answers, where its bytes are kept."""
        self.files = dict.fromkeys(versions, "bad")
        self.restart(None)
        self.rest(None)
        got = self.model.remembered.served[-1:]
        if got and not self.explicit and got[0].digest in self.archive:
            default = self.model.default_version()
            assert (default, self.served.get(default)) == (got[0].version, got[0].digest)

    def lose_kept(self, _):
        self.archive.clear()

    # What the shell does.

    def act(self, times):
        return [action for _ in range(times) if (action := self.step())]

    def step(self):
        action = self.lifecycle.next_action()
        match action:
            case Load(candidate):
                assert self.loading is None, "two loads of one model at once"
                self.loading = candidate
            case Retire(id_):
                del self.served[id_.version]
        return action

    def finish(self, _):
        if self.loading is None:
            return
        candidate, self.loading = self.loading, None
        kept = candidate.source is not Source.ARCHIVE or candidate.digest in self.archive
        if candidate.digest == "bad" or not kept:
            self.lifecycle.refused(candidate, "no good")
        elif not self.model.wants(candidate):
            self.lifecycle.postponed(candidate)
        else:
            self.served[candidate.id.version] = candidate.digest
            self.lifecycle.published(candidate)
            if candidate.digest in self.lifecycle.kept_digests():
                self.archive.add(candidate.digest)
        self.archive &= self.lifecycle.kept_digests()

    def rest(self, _):
        for _ in range(MAX_ACTIONS):
            self.finish(None)
            if not self.step():
                return
        raise AssertionError("it does not come to rest")

    def candidates(self, files, source=Source.REPOSITORY):
        stamp = str(self.stamps) if source is Source.UPLOAD else "1"
        return [Candidate(ServableId("m", v), digest, stamp, source) for v, digest in files.items()]

    def check(self):
        model = self.model
        assert "bad" not in self.served.values()
        assert (dict(model.served) if model else {}) == self.served
        assert self.served or not self.must_answer, "what answered once answers no more"
        if model is None:
            return
        self.must_answer = self.must_answer or (bool(self.served) and model.wanted)
        default = model.default_version()
        assert (default in self.served) == bool(self.served)
        if model.pinned_version and default == model.pinned_version:
            assert model.remembered.served[-1].version == default


def history(events, *, explicit):
    """Return the world after these events, each of which left everything in order, at rest."""
    world = World(explicit=explicit)
    for event, what in events:
        world.take(event, what)
        world.check()
    world.rest(None)
    world.check()
    return world


@settings(max_examples=400, deadline=None)
@given(EVENTS, st.booleans())
def test_left_alone_after_any_history_it_comes_to_rest(events, explicit):
    """Whatever operators did: actions come to an end, nothing is under way then, and no rollback hangs."""
    model = history(events, explicit=explicit).model
    if model is not None:
        assert not model.busy
        assert not model.rolling_back


@settings(max_examples=400, deadline=None)
@given(EVENTS, st.booleans())
def test_what_is_held_is_never_loaded(events, explicit):
    """At rest, what was rolled back answers under no number, but where a label or nothing better keeps it."""
    world = history(events, explicit=explicit)
    if world.model is None:
        return
    remembered = world.model.remembered
    held = {kept.digest for kept in remembered.held} - {remembered.pinned and remembered.pinned.digest}
    for version, digest in world.served.items():
        labelled = version in world.model.labels.values()
        assert digest not in held or labelled or len(world.served) == 1
