"""The MLflow flavour, with a real MLflow on a local store: what is logged comes back with the same bits."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import kanserve
from kanserve.errors import DataError, InputError, KanserveError, MissingDependencyError
from kanserve.network.evaluate import evaluate, probabilities
from tests.support.paths import ROOT
from tests.support.servers.server_process import until

pd = pytest.importorskip("pandas")

import kanserve.mlflow as flavour  # noqa: E402

if TYPE_CHECKING:
    import mlflow

KAN = kanserve.from_formula("0.5*mass*speed^2/3", ranges={"speed": (0, 30), "mass": (1, 5)})
FORMATS = ["numpy_source", "c_source"]
pytestmark = [
    pytest.mark.filterwarnings("default"),  # those of MLflow and what it imports
    pytest.mark.slow,
]


@pytest.fixture(autouse=True, scope="module")
def _mlflow(request):
    """Import it here: each of the processes that collect the tests would take two seconds for it."""
    request.module.mlflow = pytest.importorskip("mlflow", reason="needs mlflow")


@pytest.fixture(autouse=True)
def tracking(tmp_path, monkeypatch, _mlflow):
    """A store of files in the test's folder."""
    for name, value in {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield
    mlflow.set_tracking_uri(before)


def table(rows=200):
    x = np.random.default_rng(0).uniform([1, 0], [5, 30], (rows, 2))
    return pd.DataFrame(x, columns=[one.name for one in KAN.inputs])


def classifier():
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    return kanserve.Kan(scores.layers, scores.inputs, classes=("low", "high"))


def encoded():
    """A network that takes a category and a number that may be missing."""
    layer = kanserve.make_layer(functions=[["x", "x"]])
    colour = kanserve.Variable("colour", categories=("red", "blue"), category_values=(1.5, -2.5))
    return kanserve.Kan((layer,), inputs=(colour, kanserve.Variable("size", "", 0, 1, fill_value=0.25)))


@pytest.mark.extended
def test_what_is_logged_comes_back_with_the_same_bits():
    artifact = kanserve.compile(KAN, FORMATS, name="energy")
    with mlflow.start_run():
        logged = flavour.log_model(artifact, name="energy", registered_model_name="energy")
    x = table().to_numpy()
    here = kanserve.LoadedModel(artifact)
    for uri in (logged.model_uri, "models:/energy/1"):
        again = flavour.load_model(uri)
        assert dict(again.artifact.files) == dict(artifact.files) and again.backend == here.backend
        assert np.array_equal(again.predict(x), here.predict(x))
        by_name = mlflow.pyfunc.load_model(uri).predict(table()[["mass", "speed"]])
        assert np.array_equal(by_name.to_numpy(), here.predict(x)) and list(by_name.columns) == ["y"]
    np.testing.assert_allclose(again.predict(x), evaluate(KAN, x), rtol=1e-12)


@pytest.mark.extended
@pytest.mark.parametrize("form", ["network", "artifact", "loaded", "published", "estimator"])
def test_every_form_of_a_model_can_be_saved(form, tmp_path):
    artifact = kanserve.compile(KAN, FORMATS)
    kanserve.publish(tmp_path / "models", "energy", artifact)
    forms = {
        "network": KAN,
        "artifact": artifact,
        "loaded": kanserve.LoadedModel(artifact),
        "published": tmp_path / "models" / "energy",
        "estimator": type("Fitted", (), {"kan_": KAN})(),
    }
    flavour.save_model(forms[form], tmp_path / "saved")
    assert kanserve.equal(flavour.load_model(str(tmp_path / "saved")).kan, KAN)
    assert f"kanserve=={kanserve.__version__}" in (tmp_path / "saved" / "requirements.txt").read_text()
    with pytest.raises(InputError, match="got int"):
        flavour.save_model(3, tmp_path / "other")


@pytest.mark.extended
def test_the_signature_has_the_inputs_and_outputs(tmp_path):
    flavour.save_model(kanserve.compile(encoded(), FORMATS), tmp_path / "saved")
    signature = mlflow.models.get_model_info(str(tmp_path / "saved")).signature
    assert [(one.name, one.type.name, one.required) for one in signature.inputs.inputs] == [
        ("colour", "string", True),
        ("size", "double", False),
    ]
    assert [one.name for one in signature.outputs.inputs] == ["y"]
    (example,) = json.loads((tmp_path / "saved" / "input_example.json").read_text())["data"]
    assert example[0] in ("red", "blue") and 0 <= example[1] <= 1


def test_categories_and_missing_values_are_taken_from_columns_by_name(tmp_path):
    flavour.save_model(kanserve.compile(encoded(), FORMATS), tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    frame = pd.DataFrame({"size": [1.0, np.nan], "other": [7.0, 8.0], "colour": ["blue", "red"]}, index=[5, 9])
    answers = model.predict(frame)
    assert answers["y"].tolist() == [-1.5, 1.75] and list(answers.index) == [5, 9]
    assert model.predict(frame[["colour"]])["y"].tolist() == [-2.25, 1.75]
    with pytest.raises(DataError, match="colour"):
        flavour.PyfuncModel(flavour.load_model(str(tmp_path / "saved"))).predict(frame[["size"]])


def test_a_classifier_gives_labels_or_probabilities(tmp_path):
    flavour.save_model(kanserve.compile(classifier(), FORMATS), tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    frame = pd.DataFrame({"x": [0.1, 0.9]})
    assert model.predict(frame)["label"].tolist() == ["low", "high"]
    shares = model.predict(frame, params={"probabilities": True})
    np.testing.assert_allclose(shares.to_numpy(), probabilities(classifier(), frame.to_numpy()), rtol=1e-12)
    assert list(shares.columns) == ["low", "high"]


def test_rows_without_names_are_taken_by_position(tmp_path):
    artifact = kanserve.compile(KAN, FORMATS)
    model = flavour.PyfuncModel(kanserve.LoadedModel(artifact))
    x = table().to_numpy()
    assert np.array_equal(model.predict(x).to_numpy(), kanserve.LoadedModel(artifact).predict(x))
    assert np.array_equal(model.predict(pd.DataFrame(x)).to_numpy(), model.predict(x).to_numpy())


@pytest.mark.extended
@pytest.mark.parametrize("file", ["manifest.json", "kan.safetensors", "numpy_source/model.py"])
@pytest.mark.parametrize("damage", ["cut", "lost", "changed"])
def test_what_did_not_arrive_whole_is_refused(file, damage, tmp_path):
    flavour.save_model(kanserve.compile(KAN, FORMATS), tmp_path / "saved")
    path = tmp_path / "saved" / "data" / "artifact" / file
    data = path.read_bytes()
    path.chmod(0o600)
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data[:-9] + b"x" + data[-8:])
    for load in (flavour.load_model, mlflow.pyfunc.load_model):
        with pytest.raises(KanserveError):
            load(str(tmp_path / "saved"))


def test_a_model_of_another_flavour_is_said_to_be_one(tmp_path):
    mlflow.pyfunc.save_model(
        tmp_path / "saved", loader_module="tests.unit.test_mlflow", data_path=str(ROOT / "LICENSE"), pip_requirements=[]
    )
    with pytest.raises(InputError, match="python_function"):
        flavour.load_model(str(tmp_path / "saved"))


def _load_pyfunc(path):
    return path


def test_without_mlflow_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    with pytest.raises(MissingDependencyError, match=r"kanserve\[mlflow\]"):
        flavour.save_model(KAN, tmp_path / "saved")


def ask(port, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.extended
def test_mlflow_serves_it_and_its_answers_have_the_same_bits(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    artifact = kanserve.compile(KAN, FORMATS)
    flavour.save_model(artifact, tmp_path / "saved")
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters"), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(tmp_path / "saved")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    with open(tmp_path / "log", "wb") as log:
        serving = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:

        def answers():
            assert serving.poll() is None, (tmp_path / "log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        until(answers)
        frame = table(20)
        found = ask(port, {"dataframe_split": frame.to_dict(orient="split")})
        assert [row["y"] for row in found] == kanserve.LoadedModel(artifact).predict(frame.to_numpy())[:, 0].tolist()
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(port, {"dataframe_split": frame[["mass"]].to_dict(orient="split")})
        refused.value.close()
        assert refused.value.code == 400
    finally:
        if serving.poll() is None:
            os.killpg(serving.pid, signal.SIGTERM)
            serving.wait(60)
