"""Writes what is made of deploy/chart, or says what is out of date.

deploy/manifests: the chart with its own values, one file for each template, for people without Helm.
deploy/regions: the same for each of deploy/chart/examples, a region of several; files that differ from those alone.
deploy/prometheus/rules.yaml, budgets.yaml: its rules, for a Prometheus without the operator.
docs/kubernetes.md: the table of values, from the schema's descriptions and the values.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "chart"
MANIFESTS = ROOT / "deploy" / "manifests"
EXAMPLES = CHART / "examples"
REGIONS = ROOT / "deploy" / "regions"
PROMETHEUS = ROOT / "deploy" / "prometheus"
# The group of rules that has a file of its own, and that file; all others are in rules.yaml.
BUDGETS = "trireme-budgets", "budgets.yaml"
PAGE = ROOT / "docs" / "kubernetes.md"
# Release and namespace of what is rendered.
NAME = "trireme"
BEGIN, END = "<!-- values: made by build/render_chart.py -->", "<!-- end of values -->"
_SOURCE = re.compile(r"^# Source: trireme/templates/(\S+)$", re.MULTILINE)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as lines."""


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def main() -> int:
    """Returns the exit code: 1 when --check found a difference, 2 without helm or where it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file would change")
    parser.add_argument(
        "--values", type=Path, nargs="+", help="of your own: say whether a key stands twice, no more"
    )
    options = parser.parse_args()
    if options.values is not None:
        return check_values(options.values)
    helm = find_helm()
    if helm is None:
        print("helm is missing; fetch it with: make helm", file=sys.stderr)
        return 2
    try:
        for path in [CHART / "values.yaml", *EXAMPLES.glob("*.yaml")]:
            check_keys(path)
        wanted = made_files(
            template(helm), {path.stem: template(helm, "--values", path) for path in examples()}
        )
    except yaml.YAMLError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        print(f"{helm} does not render the chart: {said}", file=sys.stderr)
        return 2
    stale = [path for path in (*MANIFESTS.glob("*"), *REGIONS.glob("*/*")) if path not in wanted]
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    for path in [*stale, *changed]:
        print(f"{'out of date' if options.check else 'written'}: {path.relative_to(ROOT)}")
    if not options.check:
        for path in stale:
            path.unlink()
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return 1 if options.check and (stale or changed) else 0


def check_values(paths: Sequence[Path]) -> int:
    """Prints what is wrong with values: a key that stands twice, or no YAML. Returns the exit code."""
    try:
        for path in paths:
            check_keys(path)
    except (OSError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def find_helm() -> Path | None:
    """The helm of `make helm`, or the one that HELM or the path names; None without one."""
    own = Path(sys.executable).parent / "helm"
    found = os.environ.get("HELM") or (own if own.is_file() else shutil.which("helm"))
    return Path(found) if found else None


def template(helm: Path, *arguments: str | Path) -> str:
    """The rendered chart. Raises subprocess.CalledProcessError with helm's words in stderr."""
    command = [helm, "template", NAME, CHART, "--namespace", NAME, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def examples() -> list[Path]:
    """Values of regions."""
    return sorted(EXAMPLES.glob("*.yaml"))


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} stands twice; Helm would keep the last silently", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def check_keys(path: Path) -> None:
    """Raises yaml.YAMLError, naming key and line, for values in which a key stands twice."""
    with path.open(encoding="utf-8") as file:
        yaml.load(file, _OnceLoader)  # noqa: S506 - a SafeLoader


def made_files(rendered: str, regions: Mapping[str, str]) -> dict[Path, str]:
    """Every file that is made, with its text. regions: each example's name, and what is rendered of it."""
    manifests = split(rendered)
    rule = next(one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "PrometheusRule")
    groups: dict[str, list[Any]] = {"rules.yaml": [], BUDGETS[1]: []}
    for group in rule["spec"]["groups"]:
        groups[BUDGETS[1] if group["name"] == BUDGETS[0] else "rules.yaml"].append(group)
    header = "# Made by build/render_chart.py from deploy/chart.\n"
    regional = {
        REGIONS / region / name: header + text
        for region, text_of_all in regions.items()
        for name, text in split(text_of_all).items()
        if manifests.get(name) != text
    }
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    return {
        **{MANIFESTS / name: header + text for name, text in manifests.items()},
        **regional,
        **{
            PROMETHEUS / name: header
            + yaml.dump({"groups": some}, Dumper=_Dumper, sort_keys=False, width=1000)
            for name, some in groups.items()
        },
        PAGE: f"{before}{BEGIN}\n{values_table()}{END}{rest.split(END)[1]}",
    }


def split(rendered: str) -> dict[str, str]:
    """The documents of each template, by the template's name."""
    files: dict[str, str] = {}
    for document in re.split(r"^---\n", rendered, flags=re.MULTILINE):
        source = _SOURCE.search(document)
        body = _SOURCE.sub("", document).strip()
        if source and body:
            lines = "\n".join(line.rstrip() for line in body.splitlines())
            files[source[1]] = files.get(source[1], "") + f"---\n{lines}\n"
    return dict(sorted(files.items()))


def values_table() -> str:
    """A row for each key that the schema describes."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [
        f"| `{key}` | {_shown(default)} | {text} |" for key, default, text in _described(schema, values, "")
    ]
    return "\n".join(["| key | default | what it is |", "| --- | --- | --- |", *rows, ""])


def _described(schema: dict[str, Any], value: Any, key: str) -> Iterator[tuple[str, Any, str]]:
    if "description" in schema:
        is_leaf = not any("description" in inner for inner in schema.get("properties", {}).values())
        yield key, value if is_leaf else None, schema["description"]
    known = value if isinstance(value, dict) else {}
    for name, inner in schema.get("properties", {}).items():
        yield from _described(inner, known.get(name), f"{key}.{name}".lstrip("."))
    for inner in schema.get("patternProperties", {}).values():
        # Of entries there are several: what each has is no default.
        yield from _described(inner, None, f"{key}.NAME")


def _shown(default: Any) -> str:
    if default is None or default in ("", [], {}):
        return ""
    if isinstance(default, dict | list):
        flow = yaml.safe_dump(default, default_flow_style=True, width=1000, sort_keys=False)
        return f"`{flow.strip()}`"
    return f"`{json.dumps(default) if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    sys.exit(main())
