"""What is wrong with a manifest of Kubernetes, found without a cluster.

    python -m tests.support.manifests    # all of deploy/, and what kustomize makes of them

Kubernetes' own kinds are held to its schemas, strictly: a field that it does not know is an error, where a cluster
would only drop it. KServe's and the Prometheus operator's are held to deploy/schemas, and KServe's also to what its
controllers look for, which is free text in its schemas.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDERS = ("kserve", "kubernetes/base", "kubernetes/from-s3", "monitoring")
PROTOCOLS = {"v1", "v2", "grpc-v1", "grpc-v2"}  # of KServe
# Not a manifest of its own: what kustomize reads, a patch, and what promtool reads.
_NO_MANIFESTS = {"kustomization.yaml", "models-in-s3.yaml", "alerts_test.yaml"}


def manifests() -> dict[str, dict[str, Any]]:
    """Each manifest of deploy/, by its file's name."""
    paths = [path for path in sorted(DEPLOY.glob("**/*.yaml")) if path.name not in _NO_MANIFESTS]
    return {str(path.relative_to(DEPLOY)): yaml.safe_load(path.read_text()) for path in paths}


def built(folder: str) -> list[dict[str, Any]]:
    """What kustomize makes of a folder of deploy/."""
    made = subprocess.run(["kustomize", "build", DEPLOY / folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(made.stdout))


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, a line each; empty if nothing is."""
    schema = _schemas().get((manifest.get("apiVersion", ""), manifest.get("kind", "")))
    if schema is None:
        return _of_kubernetes(manifest)
    validator = jsonschema.Draft202012Validator(schema)
    found = [f"{_place(error.absolute_path)}: {error.message:.200}" for error in validator.iter_errors(manifest)]
    if manifest["kind"] == "ClusterServingRuntime":
        found += _of_runtime(manifest["spec"])
    if manifest["kind"] == "InferenceService":
        model = manifest["spec"].get("predictor", {}).get("model", {})
        found += _of_protocols([model.get("protocolVersion", "v2")])
        found += _of_ports(model.get("ports", []))
    return found


def _schemas() -> dict[tuple[str, str], Any]:
    made = {}
    for path in sorted((DEPLOY / "schemas").glob("*.json")):
        schema = json.loads(path.read_text())
        version, _, kind = schema["title"].partition(" ")
        made[version, kind] = schema
    return made


def _of_kubernetes(manifest: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{_place(error.path)}: {error.message:.200}"]
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return [f"{manifest.get('apiVersion')} {manifest.get('kind')}: {error}"]
    return []


def _of_runtime(spec: dict[str, Any]) -> Iterator[str]:
    yield from _of_protocols(spec.get("protocolVersions", []))
    containers = spec.get("containers", [])
    if [container.get("name") for container in containers] != ["kserve-container"]:
        yield "spec/containers: KServe looks for one container called kserve-container."
    for container in containers:
        yield from _of_ports(container.get("ports", []))


def _of_protocols(versions: list[str]) -> Iterator[str]:
    for version in versions:
        if version not in PROTOCOLS:
            yield f"protocolVersion: KServe knows {', '.join(sorted(PROTOCOLS))}, not {version!r}."


def _of_ports(ports: list[dict[str, Any]]) -> Iterator[str]:
    if ports and ports[0].get("name") not in ("h2c", "http1"):
        yield f"ports: the first is called h2c for gRPC or http1 for REST, not {ports[0].get('name')!r}."


def _place(path: Any) -> str:
    return "/".join(map(str, path)) or "the manifest"


if __name__ == "__main__":
    made = list(manifests().items())
    if shutil.which("kustomize") is not None:
        made += [(f"{folder} by kustomize", document) for folder in FOLDERS for document in built(folder)]
    wrong = [f"deploy/{name}: {mistake}" for name, manifest in made for mistake in mistakes(manifest)]
    print("\n".join(wrong) or "The manifests fit their schemas.")
    sys.exit(bool(wrong))
