"""What holds for every test."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory):
    """A sidecar that is told no state folder keeps nothing in that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("STATE_DIRECTORY", raising=False)
        yield
