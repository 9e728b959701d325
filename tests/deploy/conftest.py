"""The chart, rendered by the real helm. Where helm cannot be had its tests skip; `make helm` fetches it."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
SPEC = importlib.util.spec_from_file_location("render_chart", ROOT / "build" / "render_chart.py")
render_chart = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(render_chart)


class Chart:
    """Renders the chart with values of a test over its own."""

    def __init__(self, helm, folder):
        self.helm = helm
        self._folder = folder

    def render(self, values=None):
        """The text of all manifests; raises CalledProcessError with helm's words."""
        if values is None:
            return render_chart.template(self.helm)
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return render_chart.template(self.helm, "--values", file)

    def objects(self, values=None):
        return [one for one in yaml.safe_load_all(self.render(values)) if one]

    def refusal(self, values):
        """What helm says of values that it refuses."""
        with pytest.raises(subprocess.CalledProcessError) as refused:
            self.render(values)
        return refused.value.stderr


@pytest.fixture(scope="session")
def script():
    """build/render_chart.py."""
    return render_chart


@pytest.fixture(scope="session")
def helm():
    found = render_chart.find_helm()
    if found is None:
        pytest.skip("helm is missing; fetch it with: make helm")
    return found


@pytest.fixture(scope="session")
def chart(helm, tmp_path_factory):
    return Chart(helm, tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session")
def rendered(chart):
    """The text of the chart with its own values."""
    return chart.render()


@pytest.fixture(scope="session")
def objects(rendered):
    return [one for one in yaml.safe_load_all(rendered) if one]


# Values under which every branch of a template is taken.
GPU = {
    "gpuQuota": 4,
    "models": {
        "llm": {
            "target": "gpu",
            "replicas": {"min": 1, "max": 4},
            "image": "trireme-vllm:0.1.0",
            "runtimeClassName": "nvidia",
            "nodeSelector": {"nvidia.com/gpu.present": "true"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "warmup": {"seconds": 900},
            "drain": {"longestAnswerSeconds": 600},
            "args": ["--model-config-name=machine"],
            "env": {"CUDA_VISIBLE_DEVICES": "0"},
            "scale": {"spare": 1, "creditCold": True},
        }
    },
    "gateway": {
        "toml": '[models.assistant]\nchain = ["llm"]\n',
        "keys": [{"name": "OPENAI_API_KEY", "secret": "trireme", "key": "openai"}],
        "scale": {"on": "p95", "target": 0.5},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"operator": "Exists"}],
    },
    "worker": {"nodeSelector": {"disk": "fast"}, "tolerations": [{"operator": "Exists"}]},
    "balancer": {"nodeSelector": {"disk": "fast"}, "tolerations": [{"operator": "Exists"}]},
    "secrets": {
        "cache": {"secret": "trireme", "key": "cache-url"},
        "homeRedis": {"secret": "homes", "key": "redis-urls"},
        "homeDatabases": {"secret": "homes", "key": "database-urls"},
    },
    "settings": {"TRIREME_TENANT": "acme", "TRIREME_MAX_DOCUMENT_BYTES": 1000000},
    "image": {"pullSecrets": ["registry"]},
    "modelRepository": {
        "claimName": "",
        "volume": {"nfs": {"server": "files", "path": "/"}},
        "subPath": "models",
    },
    "monitoring": {"labels": {"release": "prometheus"}},
    "networkPolicy": {
        "gatewayClients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}],
        "envoyClients": [{"podSelector": {"matchLabels": {"app": "batch"}}}],
    },
}
HPA = {
    "scaling": {"autoscaler": "hpa"},
    "monitoring": {"operator": False, "gatewayKey": None},
    "gateway": {"scale": {"on": "cpu", "target": 60}},
    "models": {"retrieval": {"scale": {"on": "p95", "target": 0.25, "surge": 0}}},
    "networkPolicy": {"enabled": False},
}


EXAMPLES = {path.stem: yaml.safe_load(path.read_text()) for path in render_chart.examples()}


@pytest.fixture(scope="session")
def regional(chart):
    """The objects of one region of two."""
    return chart.objects(EXAMPLES["eu-west"])


@pytest.fixture(scope="session", params=["own", "gpu", "hpa", "regional"])
def variant(request, chart, objects, regional):
    """The objects of the chart's own values, of a GPU with everything set, without KEDA and operator, and of one
    region of two."""
    known = {"own": objects, "regional": regional}
    return (
        known[request.param]
        if request.param in known
        else chart.objects({"gpu": GPU, "hpa": HPA}[request.param])
    )
