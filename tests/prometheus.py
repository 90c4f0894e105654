"""A real Prometheus for tests, on a port that the system chose, with data that ends with the test."""

import contextlib
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from listening import listening

MISSING = (
    "" if shutil.which("prometheus") and shutil.which("promtool") else "no prometheus (Debian: prometheus)"
)


class Prometheus:
    """Scrapes five times a second what its configuration names; to be asked in PromQL."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; AssertionError with Prometheus' text where it is none."""
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def values(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the values by the labels' values, in the order of the labels' names."""
        return {
            tuple(
                value for name, value in sorted(series["metric"].items()) if name not in {"job", "instance"}
            ): float(series["value"][1])
            for series in self.query(expression)
        }

    def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label, as `label_values` of Grafana gives them."""
        match = urllib.parse.urlencode({"match[]": selector})
        return self._get(f"/api/v1/label/{label}/values?{match}")["data"]

    def alerts(self) -> set[str]:
        """Return the names of the alerts that are pending or firing."""
        return {alert["labels"]["alertname"] for alert in self._get("/api/v1/alerts")["data"]["alerts"]}

    def is_up(self) -> bool:
        """Say whether it answers."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=30) as answer,  # noqa: S310 - ours
        ):
            return answer.status == 200
        return False

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(self._url + path, timeout=60) as answer:  # noqa: S310 - ours
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)


@contextlib.contextmanager
def prometheus(folder: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """Run it in this folder, scraping one target as the job tickserve; ended with the block."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
        f"rule_files: [{json.dumps(str(rules))}]\n"
        "scrape_configs:\n"
        f"  - {{job_name: tickserve, static_configs: [{{targets: [{json.dumps(target)}]}}]}}\n"
    )

    def command(port: int) -> list[str]:
        return [
            *("prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h"),
        ]

    with listening(command, lambda port: Prometheus(port).is_up(), folder / "prometheus.log") as port:
        yield Prometheus(port)
