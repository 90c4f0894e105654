"""From a strategy type to a processor."""

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.factory import ALIASES, BUILT_IN, StrategyFactory

OWN = "fixtures_processors.create_every_tick_processor"


@pytest.mark.parametrize("strategy_type", BUILT_IN)
def test_built_in_types(strategy_type):
    """Each built-in type makes the processor of its name."""
    parameters = {"model": "m"} if strategy_type.startswith("ml_") else {}
    processor = StrategyFactory().create_processor(strategy_type, parameters)
    assert processor.get_strategy_name() == strategy_type


@pytest.mark.parametrize(("alias", "strategy_type"), ALIASES.items())
def test_aliases(alias, strategy_type):
    """ORIGIN's class names stand for the types."""
    parameters = {"model": "m"} if strategy_type.startswith("ml_") else {}
    assert StrategyFactory().create_processor(alias, parameters).get_strategy_name() == strategy_type


def test_own_processor_by_name_and_by_path():
    """A user's function is found under the name it was registered by, and by its path alone."""
    factory = StrategyFactory()
    factory.register_processor("every_tick", OWN)
    for strategy_type in ("every_tick", OWN):
        processor = factory.create_processor(strategy_type, {"quantity": "2"})
        assert processor.get_strategy_name() == "every_tick"


def test_a_later_registration_wins():
    """A built-in name can be given to a user's own function; other factories do not see it."""
    factory = StrategyFactory()
    factory.register_processor("momentum", OWN)
    assert factory.create_processor("momentum", {"quantity": 1}).get_strategy_name() == "every_tick"
    assert StrategyFactory().create_processor("momentum", {}).get_strategy_name() == "momentum"


@pytest.mark.parametrize(
    ("strategy_type", "parameters", "said"),
    [
        ("momentun", {}, r"^strategy_type: unknown strategy type 'momentun' \(did you mean 'momentum'\?\)"),
        ("xyz", {}, "^strategy_type: unknown strategy type 'xyz'; known: .*mean_reversion, ml_breakout"),
        (
            "no_such.create_x",
            {},
            "^strategy_type: 'no_such.create_x' cannot be imported: ModuleNotFoundError: .* 'no_such'$",
        ),
        ("math.create_x", {}, "^strategy_type: 'math.create_x' cannot be imported: .*no attribute"),
        ("math.pi", {}, "^strategy_type: 'math.pi' is no function"),
        ("momentum", {"lookback_periods": "x"}, "^parameters.lookback_periods: expected an integer"),
        ("ml_momentum", {}, "^parameters: Failed to load ML model from None"),
        (OWN, {}, "^parameters: KeyError: 'quantity'"),
        (OWN, {"quantity": "many"}, "^parameters: ValueError: invalid literal"),
        (
            "fixtures_processors.create_unloadable_processor",
            {"model_path": "gone.joblib"},
            "^parameters: ValueError: Failed to load ML model from gone.joblib",
        ),
    ],
)
def test_what_cannot_be_made_says_why(strategy_type, parameters, said):
    """H9: an unknown type names the nearest and lists all; a wrong parameter is placed under `parameters`."""
    with pytest.raises(ConfigurationError, match=said):
        StrategyFactory().create_processor(strategy_type, parameters)


def make(tmp_path, monkeypatch, name, source):
    """Make a processor by the function `c` of a user's module."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    StrategyFactory().create_processor(f"{name}.c", {})


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("own_syntax", "def c(:", "cannot be imported: SyntaxError: .*own_syntax.py, line 1"),
        ("own_zero", "\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero .*own_zero.py:2"),
        ("own_exit", "raise SystemExit(3)", "cannot be imported: SystemExit: 3 .*own_exit.py:1"),
        ("own_lines", "raise OSError('a\\n b')", "cannot be imported: OSError: a b .*own_lines.py:1"),
        ("own_imports", "import gone_thing", "cannot be imported: ModuleNotFoundError: .*own_imports.py:1"),
        ("own_call", "def c(config):\n    config.x", "parameters: AttributeError: .*own_call.py:2"),
        (
            "own_none",
            "def c(config): pass",
            "strategy_type: 'own_none.c' made None: it has no process_tick, ",
        ),
    ],
)
def test_own_module_that_raises_is_one_line(tmp_path, monkeypatch, name, source, said):
    """Whatever a user's module does while it is imported or called is one line that names the place in it."""
    with pytest.raises(ConfigurationError, match=said) as error:
        make(tmp_path, monkeypatch, name, source)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("own_length_raises", "raise OSError('x')", "OSError: x .*own_length_raises.py:"),
        ("own_length_none", "pass", "get_required_history_length: expected an integer from 0, came None"),
    ],
)
def test_own_processor_without_a_length_is_refused(tmp_path, monkeypatch, name, body, said):
    """A processor that cannot say how much history it needs is refused before it is run."""
    source = f"""
from fixtures_processors import EveryTick
class Own(EveryTick):
    def get_required_history_length(self): {body}
def c(config): return Own(1)
"""
    with pytest.raises(ConfigurationError, match=said):
        make(tmp_path, monkeypatch, name, source)


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        (
            "own_call_exit",
            "import sys\ndef c(config): sys.exit('no licence')",
            "^parameters: SystemExit: no licence .*own_call_exit.py:2",
        ),
        (
            "own_length_exit",
            "import sys\nfrom fixtures_processors import EveryTick\nclass Own(EveryTick):\n"
            "    def get_required_history_length(self): sys.exit(3)\ndef c(config): return Own(1)",
            "SystemExit: 3 .*own_length_exit.py:4",
        ),
        (
            "own_attribute",
            "class Own:\n    @property\n    def process_tick(self): raise OSError('x')\n"
            "def c(config): return Own()",
            "^strategy_type: 'own_attribute.c' made .*: OSError: x .*own_attribute.py:3",
        ),
        (
            "own_repr",
            "class Own:\n    def __repr__(self): raise OSError('x')\ndef c(config): return Own()",
            "^strategy_type: 'own_repr.c' made a Own: it has no process_tick, ",
        ),
        (
            "own_lines_repr",
            "class Own:\n    def __repr__(self): return 'a\\nb'\ndef c(config): return Own()",
            "^strategy_type: 'own_lines_repr.c' made a b: it has no process_tick, ",
        ),
    ],
)
def test_own_function_that_ends_the_program_is_one_line(tmp_path, monkeypatch, name, source, said):
    """H9: a function that calls sys.exit, or an object that cannot even be shown, is told like any other."""
    with pytest.raises(ConfigurationError, match=said) as error:
        make(tmp_path, monkeypatch, name, source)
    assert len(str(error.value).splitlines()) == 1


def test_own_function_may_change_what_it_gets(tmp_path, monkeypatch):
    """What a function does to its parameters, however deep, is no change of the configuration."""
    parameters = {"levels": [{"at": [3, 1]}]}
    (tmp_path / "own_changes.py").write_text(
        "from fixtures_processors import EveryTick\n"
        "def c(config):\n    config['levels'].pop()['at'].sort()\n    return EveryTick(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    StrategyFactory().create_processor("own_changes.c", parameters)
    assert parameters == {"levels": [{"at": [3, 1]}]}
