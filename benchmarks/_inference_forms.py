"""The forms in which benchmarks/inference.py runs a network, each a function from float32 rows to float32 outputs."""

import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray

import kanserve_exporters
from benchmarks._pykan import elsewhere
from benchmarks._timing import installed
from benchmarks._torch_kan import to_torch
from kanserve import native
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.runtime import c_backend, numpy_backend, onnx_backend

Array = NDArray[Any]
Form = Callable[[Array], Array]

EXPORTERS = ("onnx_graph", "c_source", "numpy_source")


def exports(kan: Kan) -> dict[str, dict[str, bytes]]:
    """The network in our formats, in float, with the C library."""
    options = ExportOptions("kan", "float")
    files = {kind: dict(kanserve_exporters.get(kind).export(kan, options)) for kind in EXPORTERS}
    files["c_source"] |= c_backend.build(files["c_source"])
    return files


def plain(kan: Kan) -> bytes:
    """The network as ONNX with standard operators only, for runtimes without functions defined in the file."""
    options = ExportOptions("kan", "float", onnx_form="operators")
    return kanserve_exporters.get("onnx_graph").export(kan, options)["model.onnx"]


def forms(kan: Kan, files: dict[str, dict[str, bytes]]) -> dict[str, Form]:
    """All forms of the network that can be called from Python; those whose package is missing are left out."""
    module = to_torch(kan, torch.float32).eval()

    def eager(x: Array) -> Array:
        with torch.inference_mode():
            result: Array = module(torch.from_numpy(x)).numpy()
        return result

    found = {"torch": eager, "its ONNX": stock(exported(module, len(kan.inputs)))}
    with native.disable_kernels():
        found["our ONNX"] = onnx_backend.load(files["onnx_graph"]).predict
    ours = onnx_backend.load(files["onnx_graph"])
    if ours.native:
        found["our operator"] = ours.predict
    if installed("openvino"):
        found["OpenVINO"] = openvino(plain(kan))
    found["our C"] = c_backend.load(files["c_source"]).predict
    found["our NumPy"] = numpy_backend.load(files["numpy_source"]).predict
    return found


def stock(model: bytes) -> Form:
    """onnxruntime configured as in our backend, which itself refuses operators that we do not export."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(x: Array) -> Array:
        result: Array = session.run(["y"], {"x": x})[0]
        return result

    return predict


def openvino(model: bytes) -> Form:
    """OpenVINO in float32; by default it would use bfloat16 on processors that have it."""
    library: Any = importlib.import_module("openvino")
    core = library.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", settings).create_infer_request()

    def predict(x: Array) -> Array:
        result: Array = request.infer({"x": x})["y"]
        return result

    return predict


def exported(module: torch.nn.Module, inputs: int) -> bytes:
    """torch.onnx.export of the module. torch's newer exporter needs another package and gives an equally fast file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the newer exporter, and shapes fixed by tracing
        torch.onnx.export(
            module,
            (torch.zeros(2, inputs),),
            file,  # type: ignore[arg-type]  # only the newer exporter insists on a path
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
            dynamo=False,
        )
    return file.getvalue()


def others(shape: Sequence[int], intervals: int) -> dict[str, Form]:
    """Networks of this shape from other libraries, with their own random weights, exported by torch.onnx.export."""
    found = {}
    if installed("pykan"):
        kan: Any = importlib.import_module("kan")
        with elsewhere(torch.float32):
            model = kan.KAN(width=list(shape), grid=intervals, k=3, auto_save=False).speed()
            found["pykan's ONNX"] = stock(exported(model.eval(), shape[0]))
    if installed("inkan"):
        inkan: Any = importlib.import_module("inkan")
        model = inkan.KANNetwork(list(shape), grid_size=intervals, compile_basis=False)
        found["inkan's ONNX"] = stock(exported(model.eval(), shape[0]))
    return found
