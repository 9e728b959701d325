"""A real Prometheus over servers of a test."""

import contextlib
import json
import math
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest
import yaml
from stacks import free_ports, wait_until


class Prometheus:
    def __init__(self, port):
        self._root = f"http://127.0.0.1:{port}"

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self._root}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        url = f"{self._root}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def values(self, expression):
        return [float(one["value"][1]) for one in self.get("query", query=expression)["result"]]

    def says(self, expression):
        """Whether the expression is a number now: of a mean of nothing there is none."""
        return any(not math.isnan(value) for value in self.values(expression))


def job(name, target, path="/metrics", **labels):
    """One part of the configuration: a page that is read each second."""
    return {
        "job_name": name,
        "metrics_path": path,
        "static_configs": [{"targets": [target], "labels": labels}],
    }


@contextlib.contextmanager
def prometheus_over(folder, jobs, rules=None):
    """It runs once it has read all pages. rules: what stands in a file of rules."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is missing; Debian's package of that name has it")
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": jobs}
    if rules is not None:
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        config["rule_files"] = ["rules.yaml"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    words = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log)
    try:
        asked = Prometheus(port)
        wait_until(asked.is_ready)
        wait_until(lambda: asked.values("sum(up)") == [len(jobs)])
        yield asked
    finally:
        process.terminate()
        process.wait()
