"""The ONNX files in other runtimes than the one that serves them: OpenVINO, and onnxruntime-web in node.

OpenVINO knows no functions of a file's own, so it gets the form "operators", and it computes in float32 whatever the
file says. onnxruntime-web takes the files as they are.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan
from kanserve_exporters.onnx_graph import export
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, rows
from tests.support.networks.onnx_networks import ALL
from tests.support.programs import skip, want

TYPES: dict[Precision, str] = {"float": "float32", "double": "float64"}


@pytest.mark.parametrize("name", ALL)
def test_openvino_agrees_with_evaluate_broken_rows_included(name: str) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    kan = ALL[name]()
    x = rows(kan)
    data = export(kan, ExportOptions(precision="float", onnx_form="operators"))["model.onnx"]
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    got = core.compile_model(core.read_model(data), "CPU", settings)({"x": x.astype(np.float32)})["y"]
    assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x))


RUN = """
const ort = require("onnxruntime-web"), fs = require("fs");
ort.env.logLevel = "fatal"; ort.env.wasm.numThreads = 1;
(async () => {
  for (const { type, shape, path } of JSON.parse(fs.readFileSync(0, "utf8"))) {
    const model = new Uint8Array(fs.readFileSync(path + ".onnx"));
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 4 });
    const bytes = fs.readFileSync(path + ".x"), kind = type === "float32" ? Float32Array : Float64Array;
    const x = new kind(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    const { y } = await session.run({ x: new ort.Tensor(type, x, shape) }, ["y"]);
    fs.writeFileSync(path + ".y", Buffer.from(y.data.buffer, y.data.byteOffset, y.data.byteLength));
  }
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.parametrize("precision", TYPES)
def test_onnxruntime_web_agrees_with_evaluate(precision: Precision, tmp_path: Path) -> None:
    want("node")
    if subprocess.run(
        ["node", "-e", 'require.resolve("onnxruntime-web")'], capture_output=True, check=False
    ).returncode:
        skip("onnxruntime-web: npm install onnxruntime-web in any FOLDER, NODE_PATH=FOLDER/node_modules")
    cases: list[tuple[str, Kan, NDArray[np.float64]]] = []
    for name in (*ZOO, *(one for one in ALL if one not in ZOO)):
        cases.append((name, ALL[name](), rows(ALL[name]())))
    jobs = []
    for n, (_, kan, x) in enumerate(cases):
        path = tmp_path / str(n)
        path.with_suffix(".onnx").write_bytes(export(kan, ExportOptions(precision=precision))["model.onnx"])
        path.with_suffix(".x").write_bytes(x.astype(TYPES[precision]).tobytes())
        jobs.append({"type": TYPES[precision], "shape": x.shape, "path": str(path)})
    done = subprocess.run(
        ["node", "-e", RUN], input=json.dumps(jobs), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for n, (name, kan, x) in enumerate(cases):
        got = np.fromfile(tmp_path / f"{n}.y", TYPES[precision]).reshape(len(x), -1)
        try:
            assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x) if precision == "float" else None)
        except AssertionError as found:
            raise AssertionError(f"{name}: {found}") from None
