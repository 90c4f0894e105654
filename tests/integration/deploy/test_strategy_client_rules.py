"""The alerts on a live run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "prometheus" / "strategy-client.rules.yml"
PAGE = (ROOT / "docs" / "running-strategies.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here")
def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules` has nothing to say."""
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_page_says_what_to_do_for_each_alert() -> None:
    """Each alert is a row of the page with its very expression, of metrics that the page knows."""
    text = RULES.read_text(encoding="utf-8")
    found = re.findall(r"- alert: (\w+)\n +expr: (.+)", text)
    assert len(found) == text.count("- alert:")
    for alert, expression in found:
        assert f"| `{alert}` | `{expression}` |" in PAGE
        (name,) = re.findall(r"tickserve_client_\w+", expression)
        assert f"| `{name}` |" in PAGE
