"""The image, built here and run as the manifests run it: as a pod of KServe, and as one of the Deployment.

The arguments, the probes, the user and the variables are read from the manifests and from the image.
"""

import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve import compile, publish
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from tests.support.networks import kans
from tests.support.peers import image
from tests.support.programs import skip
from tests.support.servers import serving

pytest.importorskip("kubernetes_validate")
from tests.support.manifests import manifests

pytestmark = [pytest.mark.extended, pytest.mark.slow]

MANIFESTS = manifests()
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
MODELS = {
    "houses": ("c_source", kans.raw_features),
    "graph": ("onnx_graph", kans.symbolic),
    "mixed": ("numpy_source", kans.mixed),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[image.Image]:
    if what := image.missing():
        skip(what)
    begun = time.monotonic()
    with image.built(tmp_path_factory.mktemp("image")) as one:
        print(f"The image has {one.megabytes():.0f} MB and was made in {time.monotonic() - begun:.0f} s.")
        yield one


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model for each backend, and one that takes a second for a row of zeros."""
    folder = tmp_path_factory.mktemp("models")
    for name, (kind, kan) in MODELS.items():
        publish(folder, name, compile(kan(), [kind], name=name))
    publish(folder, "slow", serving.sleeping(1.0))
    for path in (folder, *folder.rglob("*")):  # the image's user has no rights of ours
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_pod_of_kserve_answers_its_probes_and_what_the_network_says(made, models, name):
    manifest = MANIFESTS["kserve/runtime.yaml"]["spec"]
    with running(made, manifest, {"/mnt/models": models / name}, name) as pod, calling(pod, manifest, [name], name):
        pass


def test_a_pod_of_the_deployment_answers_for_all_backends_and_ends_once_it_has_answered(made, models):
    manifest = MANIFESTS["kubernetes/base/deployment.yaml"]["spec"]["template"]["spec"]
    with running(made, manifest, {"/models": models}) as pod, calling(pod, manifest, MODELS, slow="slow") as client:
        assert line(client) == "computing"
        pod.end()
        answer = json.loads(line(client))["answer"]
    np.testing.assert_allclose(answer, evaluate(kans.one_edge(), np.zeros((1, 1)))[0], rtol=1e-12)


@contextmanager
def running(
    made: image.Image, manifest: dict[str, Any], mounts: Mapping[str, Path], name: str = ""
) -> Iterator[image.Pod]:
    """A pod as the manifest says, which has what its security context demands, and ends by SIGTERM in time."""
    (container,) = manifest["containers"]
    wanted = manifest.get("securityContext", {}) | container["securityContext"]
    arguments = [argument.replace("{{.Name}}", name) for argument in container["args"]]
    with image.pod(made, arguments, mounts) as pod:
        print(f"{' '.join(arguments)}: ready after {pod.seconds_to_ready:.2f} s.")
        assert pod.seconds_to_ready < 10
        assert pod.status("Uid").split() == [str(wanted["runAsUser"])] * 4
        assert pod.status("NoNewPrivs") == str(int(not wanted["allowPrivilegeEscalation"]))
        assert {pod.status(f"Cap{kind}").strip("0") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}
        assert wanted["readOnlyRootFilesystem"] and wanted["capabilities"]["drop"] == ["ALL"]
        assert pod.writable() == {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
        yield pod
        pod.end()
        assert pod.process.wait(60) == 0


@contextmanager
def calling(
    pod: image.Pod, manifest: dict[str, Any], names: Iterable[str], name: str = "", slow: str = ""
) -> Iterator["subprocess.Popen[str]"]:
    """What asks a pod for its probes and for answers over gRPC and REST, which are right; it goes on with `slow`."""
    (container,) = manifest["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    gets = [container[probe]["httpGet"] for probe in PROBES]
    asked = [get["path"].replace("{{.Name}}", name) for get in gets]
    rows = {one: sample(MODELS[one][1](), 5, seed=1) for one in names}
    (http,) = {ports.get(get["port"], get["port"]) for get in gets}
    addresses = (f"127.0.0.1:{port}" for port in (next(iter(ports.values())), http))
    models = {one: x.tolist() for one, x in rows.items()}
    with pod.inside("tests.support.peers.pod_calls", *addresses) as client:
        assert client.stdin is not None  # asked for
        client.stdin.write(json.dumps({"probes": asked, "models": models, "slow": slow}))
        client.stdin.close()
        came = json.loads(line(client))
        assert came["probes"] == dict.fromkeys(asked, 200)
        for one, x in rows.items():
            wanted = evaluate(MODELS[one][1](), x).ravel()
            for way in ("grpc", "rest"):
                np.testing.assert_allclose(came["answers"][one][way], wanted, rtol=1e-12, err_msg=f"{one} by {way}")
        yield client
    assert client.returncode == 0


def line(client: "subprocess.Popen[str]") -> str:
    assert client.stdout is not None  # asked for
    return client.stdout.readline().strip()
