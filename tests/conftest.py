"""What holds for every test."""

import contextlib
import os

import pytest
import sidecars
from hypothesis import settings

# Every run of the tests asks the same cases, so that a change that is refused was refused for what it holds.
# TICKSERVE_SLOW=1 looks for new ones; what it finds becomes an `@example`.
# No bound on an example's time: a busy machine would fail what is right.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", derandomize=False, deadline=None)
settings.load_profile("searching" if os.environ.get("TICKSERVE_SLOW") else "repeatable")


def pytest_configure(config):
    """Let a client's thread draw its jitter while Hypothesis draws a case: it takes that for a strategy's."""
    config.addinivalue_line("filterwarnings", "ignore:Do not use the .random. module inside strategies")


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory):
    """A sidecar that is told no state folder keeps nothing in that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield


# The tests of what callers see of the wire. They are run against each transport that a sidecar has.
BY_TRANSPORT = {
    "test_cases_deadlines",
    "test_cases_endings",
    "test_cases_inputs",
    "test_cases_overload",
    "test_control",
    "test_datatypes",
    "test_fuzz",
    "test_health_live",
    "test_hostile",
    "test_limits",
    "test_model_statistics",
    "test_no_leaks",
    "test_plain_models",
    "test_predictor",
    "test_reflection",
    "test_tokens",
    "test_tracing",
    "test_tritonclient",
    "test_tritonclient_aio",
    "test_tritonclient_calls",
}


def pytest_generate_tests(metafunc):
    """Run the tests of the wire once for each transport."""
    if metafunc.module.__name__.rpartition(".")[2] in BY_TRANSPORT:
        metafunc.parametrize("served_transport", ["h2", "grpcio"], indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def served_transport(request):
    """Let the sidecars of a module serve by one transport: of all addresses where it can, TLS by grpcio."""
    asked = getattr(request, "param", "h2")
    with sidecars.served_by("grpcio") if asked == "grpcio" else contextlib.nullcontext():
        yield asked
