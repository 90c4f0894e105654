"""What `import strategy_client` needs."""

import ast
import importlib
import importlib.metadata
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import strategy_client

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
[getattr({module}, name) for name in {module}.__all__]
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
    """Every public name can be taken where nothing but grpcio, protobuf and numpy is installed."""
    ran = import_with_base_install(module)
    assert ran.returncode == 0, ran.stderr


def test_the_store_needs_more():
    """Only who reads a store needs a YAML reader: this also shows that the test above hides what it says."""
    ran = import_with_base_install("strategy_client.store.strategy_file")
    assert "No module named 'yaml'" in ran.stderr


def test_the_package_by_itself_imports_no_library():
    """`import strategy_client` costs next to nothing: not even numpy and grpc come before they are needed."""
    script = "import sys, strategy_client; print(*{'numpy', 'grpc', 'google', 'typer'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_type_checker_and_the_interpreter_know_the_same_names():
    """The table of names says what the typed block says, and `dir` and `*` give all of them."""
    (typed,) = (
        node
        for node in ast.parse(Path(strategy_client.__file__).read_text()).body
        if isinstance(node, ast.If)
    )
    homes = {
        alias.asname: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == {name: f"strategy_client.{home}" for name, home in strategy_client._HOMES.items()}
    assert set(strategy_client.__all__) == set(homes)
    assert set(homes) <= set(dir(strategy_client))
    for name, home in homes.items():
        assert getattr(strategy_client, name) is getattr(importlib.import_module(home), name)


def test_what_comes_by_its_name_is_pickled():
    """A class, its objects and a function go through pickle as those of any module do."""
    config = strategy_client.StrategyConfig("s", "momentum", {}, ("paper",), (1,))
    things = [strategy_client.InferenceClient, strategy_client.open_replay, config]
    assert pickle.loads(pickle.dumps(things)) == things  # noqa: S301 our own


def test_a_name_that_there_is_not_is_said_as_of_any_module():
    """An unknown name is an AttributeError, and an ImportError where it is imported."""
    with pytest.raises(AttributeError, match="module 'strategy_client' has no attribute 'InferenceClint'"):
        _ = strategy_client.InferenceClint
    with pytest.raises(ImportError, match="cannot import name 'InferenceClint'"):
        from strategy_client import InferenceClint  # noqa: F401
