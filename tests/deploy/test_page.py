"""docs/kubernetes.md: its commands and values are ones that the chart takes."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
OWN = yaml.safe_load((ROOT / "deploy" / "chart" / "values.yaml").read_text())


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_helm_commands_render_the_chart(helm):
    text = "".join(blocks("sh")).replace("\\\n", "")
    lines = [line for line in text.splitlines() if line.startswith("helm")]
    assert [line.split()[1] for line in lines] == ["lint", "upgrade", "upgrade"]
    for line in lines:
        # No cluster is there: what would be installed is rendered.
        words = shlex.split(line.replace("upgrade --install", "template"))[1:]
        subprocess.run([helm, *words], cwd=ROOT, check=True, capture_output=True)


def test_the_pages_secret_has_the_keys_that_the_values_name():
    made = set(re.findall(r"--from-literal=([a-z-]+)=", blocks("sh")[0]))
    named = [*OWN["secrets"].values(), OWN["monitoring"]["gatewayKey"]]
    assert made == {one["key"] for one in named if one}
    assert {one["secret"] for one in named if one} == {"trireme"}


def test_the_pages_gpu_entry_is_one(chart):
    (text,) = blocks("yaml")
    made = {
        one["metadata"]["name"]: one
        for one in chart.objects(yaml.safe_load(text))
        if one["kind"] == "Deployment"
    }
    server = made["trireme-llm"]["spec"]["template"]["spec"]["containers"][0]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert server["image"] == "trireme-vllm:0.1.0"


def test_the_pages_secret_of_regions_has_the_files_that_the_pod_reads(regional):
    (config,) = [
        one for one in regional if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "trireme-envoy"
    ]
    tls = yaml.safe_load(config["data"]["values.yaml"])["envoy"]["regionTls"]
    made = set(re.findall(r"--from-file=([a-z.]+)=", blocks("sh")[1]))
    assert made == {Path(path).name for path in tls.values()}
    assert "generic trireme-region --type=kubernetes.io/tls" in blocks("sh")[1]


def keys(schema, path=""):
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from keys(inner, f"{path}{name}.")
    for inner in schema.get("patternProperties", {}).values():
        yield from keys(inner, f"{path}NAME.")


def test_every_value_that_the_pages_name_is_one():
    schema = json.loads((ROOT / "deploy" / "chart" / "values.schema.json").read_text())
    known = set(keys(schema))
    # An entry's own keys are named without models.NAME.
    known |= {key.removeprefix("models.NAME.") for key in known}
    known |= {key.removeprefix("scaling.defaults.") for key in known}
    tops = {key.split(".")[0] for key in known}
    for page in (PAGE.split("## Values")[0], (ROOT / "docs" / "runbook.md").read_text()):
        for word in re.findall(r"`([a-z][A-Za-z]+(?:\.[a-zA-Z]+)+)(?:[:=][^`]*)?`", page):
            if word.split(".")[0] in tops and not word.startswith("models."):
                assert word in known, word


def test_every_file_of_the_folder_that_the_page_names_is_there():
    for path in set(re.findall(r"`(deploy/[A-Za-z/._-]+)`", PAGE)):
        assert (ROOT / path).exists(), path
