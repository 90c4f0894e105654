"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# Every run of the tests asks the same cases, so that a change that is refused was refused for what it holds.
# TICKSERVE_SLOW=1 looks for new ones; what it finds becomes an `@example`.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("searching", derandomize=False)
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
