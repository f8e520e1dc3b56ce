"""The manifests of deploy/ fit their schemas and the server; those with a mistake are refused."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanserve.serve.configuration.settings_sources import configuration
from kanserve.serve.settings import Settings
from tests.support.paths import ROOT

pytest.importorskip("kubernetes_validate")
from tests.support.manifests import DEPLOY, FOLDERS, built, manifests, mistakes

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
DASHBOARD = DEPLOY / "monitoring" / "dashboard.json"
IMAGE_ENVIRONMENT = dict(re.findall(r"(KANSERVE_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text("utf-8")))
KUSTOMIZE = pytest.mark.skipif(shutil.which("kustomize") is None, reason="needs kustomize")


MANIFESTS = manifests()


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_fits_its_schema(name):
    assert mistakes(MANIFESTS[name]) == []


@KUSTOMIZE
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_kustomize_makes_fits_its_schemas(folder):
    assert [mistake for one in built(folder) for mistake in mistakes(one)] == []


def pod(one: dict[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = one["spec"].get("template", one)["spec"]
    return template


def container(one: dict[str, Any]) -> dict[str, Any]:
    return dict(pod(one)["containers"][0])


def put(*place: Any) -> Callable[[dict[str, Any]], None]:
    """A change: the value at the end of the place, the rest of which leads there."""
    *path, key, value = place

    def change(one: Any) -> None:
        for step in path:
            one = one[step]
        one[key] = value

    return change


RUNTIME, SERVICE = "kserve/runtime.yaml", "kserve/inference-service.yaml"
KEDA, DEPLOYMENT = "kserve/inference-service-keda.yaml", "kubernetes/base/deployment.yaml"
IN_POD = ("spec", "template", "spec", "containers", 0)
WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "a misspelt probe": (DEPLOYMENT, put(*IN_POD, "readynessProbe", {}), "readynessProbe"),
    "a misspelt probe of a runtime": (RUNTIME, put("spec", "containers", 0, "livenesProbe", {}), "livenesProbe"),
    "a port that is a text": (DEPLOYMENT, put(*IN_POD, "ports", 0, "containerPort", "grpc"), "containerPort"),
    "replicas that are a text": ("kubernetes/base/autoscaler.yaml", put("spec", "minReplicas", "two"), "minReplicas"),
    "a protocol that KServe does not know": (RUNTIME, put("spec", "protocolVersions", ["grpc"]), "'grpc'"),
    "a protocol of a service": (SERVICE, put("spec", "predictor", "model", "protocolVersion", "v3"), "'v3'"),
    "a container that KServe does not find": (RUNTIME, put("spec", "containers", 0, "name", "kanserve"), "container"),
    "a first port that is not gRPC's": (RUNTIME, put("spec", "containers", 0, "ports", 0, "name", "grpc"), "h2c"),
    "a metric of KEDA at a wrong place": (KEDA, put("spec", "predictor", "metrics", []), "metrics"),
    "a model format without a name": (SERVICE, put("spec", "predictor", "model", "modelFormat", {}), "name"),
    "a service without a type": ("kubernetes/base/service.yaml", put("kind", "Servise"), "Servise"),
    "an alert without an expression": (
        "monitoring/prometheus-rule.yaml",
        put("spec", "groups", 0, "rules", 0, {"alert": "A"}),
        "expr",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_manifest_with_a_mistake_is_refused(case):
    name, change, said = WRONG[case]
    one = MANIFESTS[name]
    changed = copy.deepcopy(one)
    change(changed)
    assert mistakes(one) == []
    assert any(said in mistake for mistake in mistakes(changed)), mistakes(changed)


def settings(one: dict[str, Any], mounted: Path) -> Settings:
    """How a pod's server is set: by the arguments of the manifest and the variables of the image. What is mounted into
    the pod is in this folder."""
    (mounted / "public.pem").touch()
    arguments = [argument.replace("{{.Name}}", "houses") for argument in container(one)["args"]]
    for volume in ("/etc/kanserve/keys", "/mnt/models", "/models"):
        arguments = [re.sub(f"(^|=){volume}", rf"\1{mounted}", argument) for argument in arguments]
    return configuration(arguments, IMAGE_ENVIRONMENT).settings


@pytest.mark.parametrize("name", [RUNTIME, DEPLOYMENT])
def test_the_probes_and_the_ports_of_a_pod_are_those_of_its_server(name, tmp_path):
    one = MANIFESTS[name]
    found, ports = settings(one, tmp_path), {port["name"]: port["containerPort"] for port in container(one)["ports"]}
    assert found.host == found.host_of_http() == "0.0.0.0"
    assert list(ports.values()) == [found.port, found.http_port]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container(one)[probe]["httpGet"]
        assert ports.get(get["port"], get["port"]) == found.http_port
        assert re.fullmatch(r"/v2/(health/(live|ready)|models/[^/]+/ready)", get["path"])
    if name == DEPLOYMENT:
        assert pod(one)["terminationGracePeriodSeconds"] >= found.grace_seconds + 5


@KUSTOMIZE
def test_the_deployment_from_s3_reads_signed_models_and_mounts_none(tmp_path):
    (one,) = [made for made in built("kubernetes/from-s3") if made["kind"] == "Deployment"]
    assert [volume["name"] for volume in pod(one)["volumes"]] == ["keys", "tmp"]
    assert settings(one, tmp_path).repository == "s3://models"
    assert container(one)["args"][-1].startswith("--require-signature=")


def rules() -> list[dict[str, Any]]:
    return [rule for group in MANIFESTS["monitoring/prometheus-rule.yaml"]["spec"]["groups"] for rule in group["rules"]]


def test_every_alert_names_a_section_of_the_runbook():
    sections = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^## (.+)$", RUNBOOK)
    }
    for rule in rules():
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert page.endswith("/docs/runbook.md") and section in sections, rule["alert"]


def test_alerts_and_dashboard_ask_only_for_metrics_that_exist():
    from kanserve.serve.observability import prometheus

    known = set(re.findall(r'"(kanserve_\w+)"', Path(prometheus.__file__).read_text("utf-8")))
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules()]
    for expression in asked:
        for name in re.findall(r"\bkanserve_\w+", expression):
            name = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in known, expression


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's prometheus")
def test_each_alert_fires_when_it_should_and_only_then(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(MANIFESTS["monitoring/prometheus-rule.yaml"]["spec"]))
    shutil.copy(DEPLOY / "monitoring" / "alerts_test.yaml", tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
