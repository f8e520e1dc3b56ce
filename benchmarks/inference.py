"""Inference: the same networks in float32 on one thread, in every form that they can be run in.

Peers are the network in plain torch and that module's torch.onnx.export in stock onnxruntime; ours are our ONNX file in
the same onnxruntime, the C library and the NumPy module, called from Python. Errors are against `reference.evaluate`.

    OMP_NUM_THREADS=1 python benchmarks/inference.py [--small]
"""

import io
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

import kanserve_exporters
from benchmarks._timing import goal, interleaved, machine, table
from benchmarks._torch_kan import to_torch
from kanserve import reference
from kanserve.ir import Kan, layer
from kanserve.options import ExportOptions
from kanserve.runtime import c_source, get
from kanserve.splines import uniform_knots

NETS = {"A": ([4, 10, 1], 5), "B": ([4, 10, 10, 1], 50), "C": ([64, 64, 64, 10], 5), "D": ([784, 64, 10], 5)}
BATCHES = (1, 32, 1024)
FORMS = ("torch", "its ONNX", "our ONNX", "our C", "our NumPy")
GOAL = 3.0  # our ONNX file against the exported one
PEAK_GOAL = 0.5  # of the multiply-adds that the core can do

Array = NDArray[Any]
Forms = dict[str, Callable[[Array], Array]]


@dataclass(frozen=True)
class Row:
    """One network and batch: CPU seconds a call of each form, and each form's error."""

    net: str
    batch: int
    seconds: Mapping[str, float]
    errors: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """How many times faster our ONNX file is than torch's."""
        return self.seconds["its ONNX"] / self.seconds["our ONNX"]

    @property
    def allowed(self) -> float:
        """The error that is agreement: 1e-5, or twice that of torch in float32 where it is larger."""
        return max(1e-5, 2 * self.errors["torch"])

    @property
    def agrees(self) -> bool:
        return all(self.errors[form] <= self.allowed for form in FORMS if form.startswith("our"))

    @property
    def products_per_second(self) -> float:
        """What the C library must do: of each spline the k + 1 basis functions that are not 0, and the base."""
        shape, _ = NETS[self.net]
        return self.batch * 5 * sum(i * o for i, o in pairwise(shape)) / self.seconds["our C"]


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    print(report(measure(small), *timed_in_c(network("A"))))


def network(name: str) -> Kan:
    """Random splines that keep the values on the way near the grids; they run out as those of the peers do."""
    shape, intervals = NETS[name]
    rng = np.random.default_rng(0)
    layers = []
    for i, o in pairwise(shape):
        coefficients, weights = rng.normal(0, i**-0.5, (o, i, intervals + 3)), rng.normal(0, i**-0.5, (o, i))
        knots = uniform_knots(-1, 1, intervals, 3)
        layers.append(layer(coefficients, knots=knots, base_weight=weights, extrapolation="zero"))
    return Kan(tuple(layers))


def measure(small: bool = False) -> list[Row]:
    torch.set_num_threads(1)
    rounds, seconds = (1, 1e-4) if small else (15, 5e-3)
    rows = []
    for name in NETS if not small else ("A", "C"):
        kan = network(name)
        x = np.random.default_rng(1).uniform(-1, 1, (1024, len(kan.inputs))).astype(np.float32)
        forms, wanted = all_forms(kan), reference.evaluate(kan, x)
        errors = {form: float(np.abs(run(x) - wanted).max() / np.abs(wanted).max()) for form, run in forms.items()}
        for batch in BATCHES:
            calls = {form: _call(run, x[:batch]) for form, run in forms.items()}
            rows.append(Row(name, batch, interleaved(calls, rounds, seconds), errors))
    return rows


def _call(run: Callable[[Array], Array], x: Array) -> Callable[[], Array]:
    return lambda: run(x)


def all_forms(kan: Kan) -> Forms:
    """Each form as a function from rows to outputs, float32 both."""
    module = to_torch(kan, torch.float32).eval()

    def eager(x: Array) -> Array:
        with torch.inference_mode():
            result: Array = module(torch.from_numpy(x)).numpy()
        return result

    options = ExportOptions("kan", "float")
    files = {kind: dict(kanserve_exporters.get(kind).export(kan, options)) for kind in kanserve_exporters.names()}
    files["c_source"] |= c_source.build(files["c_source"])
    return {
        "torch": eager,
        "its ONNX": stock(exported(module, len(kan.inputs))),
        "our ONNX": get("onnx_graph").load(files["onnx_graph"]).predict,
        "our C": get("c_source").load(files["c_source"]).predict,
        "our NumPy": get("numpy_source").load(files["numpy_source"]).predict,
    }


def stock(model: bytes) -> Callable[[Array], Array]:
    """onnxruntime as our backend sets it up; the backend itself takes no operators but those that we export."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(x: Array) -> Array:
        result: Array = session.run(["y"], {"x": x})[0]
        return result

    return predict


def exported(module: torch.nn.Module, inputs: int) -> bytes:
    """torch.onnx.export of the module. Its newer exporter needs one package more and gives a file as fast as this."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it tells of the newer exporter
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


TIMER = """
#include "kan.h"
#include <stdio.h>
#include <time.h>
#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#else
typedef float vector __attribute__((vector_size(16)));
#endif
static double since(clock_t begun) { return (double)(clock() - begun) / CLOCKS_PER_SEC; }
static float keep;
static double products(void) {
    vector a = {0}, b = {0}, p = a, q = a, r = a, s = a, t = a, u = a, v = a, w = a;
    a += 0.5f; b += 1.0f;
    clock_t begun = clock();
    for (int n = 0; n < 3000000; n++) { /* eight at a time hide the latency of each */
        p = p * a + b; q = q * a + b; r = r * a + b; s = s * a + b;
        t = t * a + b; u = u * a + b; v = v * a + b; w = w * a + b;
    }
    double taken = since(begun);
    p += q + r + s + t + u + v + w;
    keep += p[0];
    return 8 * 3e6 * sizeof(vector) / sizeof(float) / taken;
}
static double call(void) {
    float x[kan_N_IN] = {0.1f}, y[kan_N_OUT];
    clock_t begun = clock();
    for (int n = 0; n < 100000; n++) { x[0] = n * 1e-5f; kan_predict(x, y); keep += y[0]; }
    return since(begun) / 1e5;
}
int main(void) {
    for (int round = 0; round < 15; round++) printf("%g %g\\n", call(), products());
    return keep != keep;
}
"""


def timed_in_c(kan: Kan) -> tuple[float, float]:
    """CPU seconds of one row when C calls the C source, and how many fused multiply-adds a second this core can do."""
    files = kanserve_exporters.get("c_source").export(kan, ExportOptions("kan", "float"))
    clones = [f"-Dkan_HOT=__attribute__(({c_source.CLONES}))"] if platform.machine() == "x86_64" else []
    commands = (
        ["-c", *(one for one in c_source.FLAGS if one not in ("-shared", "-fPIC")), *clones, "kan.c"],
        ["-O3", "-march=native", "timer.c", "kan.o", "-o", "timer", "-lm"],
    )
    with tempfile.TemporaryDirectory() as folder:
        for path, content in {**files, "timer.c": TIMER.encode()}.items():
            Path(folder, path).write_bytes(content)
        for command in commands:
            subprocess.run(["cc", *command], cwd=folder, check=True)
        done = subprocess.run([str(Path(folder, "timer"))], capture_output=True, text=True, check=True)
    rounds = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    return float(np.median(rounds[:, 0])), float(rounds[:, 1].max())


def report(rows: list[Row], in_c: float, peak: float) -> str:
    head = ["net", "batch", *(f"{form}, µs" for form in FORMS), "ONNX ratio", "C/peak"]
    head += ["error torch", "our ONNX", "our C"]
    body = [
        [row.net, str(row.batch)]
        + [f"{row.seconds[form] * 1e6:.1f}" for form in FORMS]
        + [f"{row.ratio:.2f}", f"{row.products_per_second / peak:.0%}"]
        + [f"{row.errors[form]:.1e}" for form in ("torch", "our ONNX", "our C")]
        for row in rows
    ]
    slow = [f"{row.net} at {row.batch}" for row in rows if row.ratio < GOAL]
    far = sorted({row.net for row in rows if not row.agrees})
    busy = [row for row in rows if row.net in "CD" and row.batch >= 32]
    idle = [f"{row.net} at {row.batch}" for row in busy if row.products_per_second < PEAK_GOAL * peak]
    called = rows[0].seconds["our C"]  # one row of A
    shapes = "; ".join(f"{name} {shape}, {intervals} intervals" for name, (shape, intervals) in NETS.items())
    return "\n".join(
        [
            "Inference, float32, one thread, CPU time a call",
            machine("numpy", "torch", "onnxruntime"),
            f"{shapes}; cubic. Errors are the largest of 1024 rows, in parts of the largest output.",
            "",
            table(head, body),
            "",
            goal(not slow, f"our ONNX ≥ {GOAL:g}x faster than torch's", slow),
            goal(not far, "errors of ours ≤ 1e-5, or twice torch's", far),
            goal(not idle, f"C, nets C and D from 32 rows, ≥ {PEAK_GOAL:.0%} of {peak / 1e9:.0f} G products/s", idle),
            goal(in_c <= 100e-9, f"C, one row of A called from C, ≤ 100 ns: {in_c * 1e9:.0f} ns"),
            goal(called <= 1e-6, f"C, one row of A called from Python, ≤ 1 µs: {called * 1e6:.1f} µs"),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
