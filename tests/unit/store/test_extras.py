"""Which extra each store needs, and what is said where it is missing."""

import subprocess
import sys

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.store import open_store

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from strategy_client.configuration import ConfigurationError
from strategy_client.store import open_store
try:
    print(open_store({place!r}).read().strategies[0].strategy_id)
except ConfigurationError as error:
    print(error)
"""


def said(place, *hidden):
    script = HIDE.format(hidden=hidden, place=str(place))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_files_need_no_database(tmp_path):
    """Where only YAML is used, neither SQLAlchemy nor psycopg nor watchfiles is needed."""
    (tmp_path / "a.yaml").write_text("strategy_name: a\nstrategy_type: momentum\ninstruments: [1]\n")
    assert said(tmp_path, "sqlalchemy", "psycopg", "watchfiles") == "a\n"


def test_a_database_names_its_extra(tmp_path):
    """A URL without what reads it is told which extra to install; a table needs no YAML reader."""
    assert "needs the database extra, tickserve[database]: No module" in said("sqlite:///a.db", "sqlalchemy")
    assert "PostgreSQL needs the database extra" in said("postgresql://h/d", "psycopg")
    assert "cannot be read" in said(f"sqlite:///{tmp_path}/gone.db", "yaml", "psycopg", "watchfiles")


@pytest.mark.parametrize("place", ["postgresql:/u:s3cret@h/d", " postgresql://u:s3cret@h/d", "u:s3cret@h/d"])
def test_a_mistyped_url_shows_no_password(place):
    """What reads as a path for want of its :// is refused without the password that is in it."""
    with pytest.raises(ConfigurationError) as raised:
        open_store(place)
    assert "s3cret" not in str(raised.value)
    assert "expected a file, a folder, sqlite:///FILE or postgresql://" in str(raised.value)
