"""Writes tests/deploy/schemas/grafana.json: Grafana's types of a dashboard as JSON Schema. Needs node and npm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "tests" / "deploy" / "schemas" / "grafana.json"
GRAFANA, GENERATOR = "@grafana/schema@13.2.3", "ts-json-schema-generator@2.4.0"
TYPES = "node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen.d.ts"


def main() -> None:
    """Fetches both packages into a folder that is removed again. Raises CalledProcessError with npm's words."""
    npm, npx = shutil.which("npm"), shutil.which("npx")
    if npm is None or npx is None:
        sys.exit("error: npm is missing; install it with: apt-get install npm")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "package.json").write_text('{"private": true}')
        words = ("--no-audit", "--no-fund", "--ignore-scripts", "--save-exact")
        subprocess.run([npm, "install", *words, GRAFANA, GENERATOR], cwd=folder, check=True)
        command = (npx, "ts-json-schema-generator", "-p", TYPES, "-t", "Dashboard", "--no-type-check")
        made = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    TARGET.write_text(json.dumps(without_words(json.loads(made.stdout)), indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: of {GRAFANA}")


def without_words(schema: Any) -> Any:
    """The schema without its descriptions, which check nothing."""
    if isinstance(schema, list):
        return [without_words(one) for one in schema]
    if isinstance(schema, dict):
        return {
            key: without_words(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return schema


if __name__ == "__main__":
    main()
