"""What `import strategy_client` needs."""

import importlib.metadata
import subprocess
import sys

import pytest

BASE = ("grpcio", "protobuf", "numpy", "typing_extensions", "tickserve")  # typing_extensions is grpcio's own
# Hides every other installed distribution, as on a machine where only the base install was made.
SCRIPT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set({hidden!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
import {module}
"""


def import_with_base_install(module):
    installed = importlib.metadata.packages_distributions()
    hidden = [
        name for name, owners in installed.items() if not {owner.lower() for owner in owners} & set(BASE)
    ]
    script = SCRIPT.format(hidden=hidden, module=module)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["strategy_client", "strategy_client.testing"])
def test_base_install_is_grpc_protobuf_and_numpy(module):
    """The client can be imported where nothing but grpcio, protobuf and numpy is installed."""
    ran = import_with_base_install(module)
    assert ran.returncode == 0, ran.stderr


def test_the_store_needs_more():
    """Only who reads a store needs a YAML reader: this also shows that the test above hides what it says."""
    ran = import_with_base_install("strategy_client.store.strategy_file")
    assert "No module named 'yaml'" in ran.stderr


def test_public_names_are_there():
    """Every name that the package offers can be taken from it."""
    import strategy_client

    assert [name for name in strategy_client.__all__ if not hasattr(strategy_client, name)] == []
