"""The life cycle's promise under any order of events: what was available once stays available."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_server.core.errors import NotFoundError, RefusedError
from inference_server.core.servable import ServableId
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.model_versions import Load, Retire
from inference_server.serving.policy import All, Latest, Specific, aspired_versions
from inference_server.serving.repository import Candidate

VERSIONS = st.integers(1, 4)
DIGESTS = st.sampled_from(["a", "b", "bad"])
FOUND = st.tuples(st.just("found"), st.dictionaries(VERSIONS, DIGESTS, max_size=4))
POLICIES = st.one_of(
    st.builds(Latest, st.integers(1, 3)),
    st.just(All()),
    st.builds(Specific, st.frozensets(VERSIONS, min_size=1)),
)
POLICY = st.tuples(st.just("policy"), POLICIES)
ACT = st.tuples(st.just("act"), st.integers(1, 6))
FINISH = st.tuples(st.just("finish"), st.booleans())
ROLLBACK = st.tuples(st.just("rollback"), st.none())
RESUME = st.tuples(st.just("resume"), st.none())
LABEL = st.tuples(st.just("label"), VERSIONS)
OPERATOR = st.one_of(ROLLBACK, ROLLBACK, RESUME, LABEL)


class World:
    """What is served, as a shell would have it that does what the life cycle says."""

    def __init__(self):
        self.lifecycle = Lifecycle()
        self.served = {}
        self.loading = None
        self.found = {}
        self.refused = {}
        self.ever_available = False
        self.rolled_back = {}

    def take(self, event, what):
        if event == "found":
            candidates = [Candidate(ServableId("m", v), digest, digest) for v, digest in what.items()]
            self.lifecycle.found(candidates, {})
            self.found = what
            self.refused = {v: digest for v, digest in self.refused.items() if what.get(v) == digest}
            self.rolled_back = {
                v: digest for v, digest in self.rolled_back.items() if what.get(v, digest) == digest
            }
        elif event == "policy":
            self.lifecycle.set_policy("m", what)
        elif event == "finish":
            self.finish(postpone=what)
        elif event in ("rollback", "resume", "label"):
            with contextlib.suppress(NotFoundError, RefusedError):
                self.operate(event, what)
        else:
            for _ in range(what):
                if not self.act():
                    break

    def operate(self, event, what):
        if event == "rollback":
            before = dict(self.served)
            done = self.lifecycle.roll_back("m")
            assert before[done.back_from.version] == done.back_from.digest
            assert done.back_to.digest != done.back_from.digest
            self.rolled_back[done.back_from.version] = done.back_from.digest
            self.rolled_back = {v: d for v, d in self.rolled_back.items() if d != done.back_to.digest}
        elif event == "resume":
            self.lifecycle.resume("m")
            self.rolled_back = {}
        else:
            self.lifecycle.set_label("m", "stable", what)

    def act(self):
        action = self.lifecycle.next_action()
        match action:
            case Load(candidate):
                assert self.loading is None, "two loads of one model at once"
                assert self.served.get(candidate.id.version) != candidate.digest, "loaded what is served"
                assert self.refused.get(candidate.id.version) != candidate.digest, (
                    "tried a refused file again"
                )
                self.loading = candidate
            case Retire(id_):
                del self.served[id_.version]
        return action is not None

    def finish(self, *, postpone):
        if self.loading is None:
            return
        candidate, self.loading = self.loading, None
        if postpone:
            self.lifecycle.postponed(candidate)
        elif candidate.digest == "bad":
            self.lifecycle.refused(candidate, "bad")
            if self.found.get(candidate.id.version) == "bad":
                self.refused[candidate.id.version] = "bad"
        elif not self.lifecycle.model("m").wants(candidate):
            self.lifecycle.postponed(candidate)
        else:
            assert candidate.digest not in self.rolled_back.values(), "what was rolled back is served again"
            self.served[candidate.id.version] = candidate.digest
            self.lifecycle.published(candidate)
            self.ever_available = True
            if not self.lifecycle.model("m").pinned_version:  # a file that came later ended the rollback
                self.rolled_back = {v: d for v, d in self.rolled_back.items() if self.found.get(v) == d}


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(FOUND, POLICY, ACT, FINISH, OPERATOR), max_size=40))
def test_never_without_a_version_once_one_was_available(events):
    """Whatever comes, goes, fails or changes its policy, a model that answered once always answers."""
    world = World()
    for event, what in events:
        world.take(event, what)
        assert world.served or not world.ever_available
        assert "bad" not in world.served.values()
        model = world.lifecycle.model("m")
        if model is not None:
            assert dict(model.served) == world.served
            assert model.default_version() in (world.served or {0: ""})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(FOUND, POLICY, ACT, FINISH), max_size=30), FOUND, POLICY)
def test_left_alone_it_comes_to_rest_where_the_policy_wants_it(events, found, policy):
    """From any state: once nothing changes, a bounded number of actions serves the good versions aspired."""
    world = World()
    for event, what in [*events, found, policy]:
        world.take(event, what)
    for _ in range(40):
        world.finish(postpone=False)
        if not world.act():
            break
    else:
        raise AssertionError("it does not come to rest")
    world.finish(postpone=False)
    usable = [version for version, digest in found[1].items() if digest != "bad" or version in world.served]
    aspired = aspired_versions(policy[1], usable)
    for version in aspired:
        digest = found[1][version]
        assert digest == "bad" or world.served[version] == digest
    if aspired:
        assert world.served.keys() == aspired
