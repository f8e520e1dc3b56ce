"""The forms in which benchmarks/inference.py runs a network, each a function from rows to outputs, float32 both."""

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
from kanserve.network.kan import Kan
from kanserve.options import ExportOptions
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
    """The network as ONNX of standard operators alone, for runtimes that know no functions of a file's own."""
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
    with native.disabled():
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
    """onnxruntime as our backend sets it up; the backend itself takes no operators but those that we export."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(x: Array) -> Array:
        result: Array = session.run(["y"], {"x": x})[0]
        return result

    return predict


def openvino(model: bytes) -> Form:
    """OpenVINO. It would compute in bfloat16 where the processor can, if it were let."""
    library: Any = importlib.import_module("openvino")
    core = library.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", settings).create_infer_request()

    def predict(x: Array) -> Array:
        result: Array = request.infer({"x": x})["y"]
        return result

    return predict


def exported(module: torch.nn.Module, inputs: int) -> bytes:
    """torch.onnx.export of the module. Its newer exporter needs one package more and gives a file as fast as this."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of the newer exporter, and of shapes that a trace fixes
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
    """Networks of this shape as other libraries make and torch.onnx.export writes them; their numbers are their own."""
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
