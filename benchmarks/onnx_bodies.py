"""Which ONNX implementation (body) of a spline layer is fastest in onnxruntime, and whether the cost model chooses it.

Measures every body on single layers in float, fits the constants of kanserve_exporters/_onnx/onnx_costs.py to half of
the shapes, and prints for the others how much slower the chosen body is than the best.

    OMP_NUM_THREADS=1 python benchmarks/onnx_bodies.py [--small]
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from benchmarks._timing import interleaved, machine, table
from kanserve import native
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.runtime import onnx_backend as runtime
from kanserve_exporters import onnx_graph
from kanserve_exporters._onnx.cardinal import FINE
from kanserve_exporters._onnx.costs import CONSTANTS, ROWS, How, Shape, cheapest, microseconds, plain

FITTED = [Shape(*sizes) for sizes in itertools.product((4, 24, 128), (1, 12, 64), (4, 16, 50), (3,))]
FITTED += [Shape(*sizes) for sizes in itertools.product((6, 96), (3, 48), (5, 30), (1, 2, 5))]
TRIED = [Shape(*sizes) for sizes in itertools.product((2, 10, 64), (2, 32), (5, 10, 30, 80), (2, 3, 4))]
TRIED += [Shape(784, 64, 5, 3), Shape(300, 100, 8, 3)]
LONGEST = 2**22  # products per row, up to which 1024 rows are measured

Times = dict[tuple[Shape, How, int], float]


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    fitted, tried = (FITTED[::13], TRIED[::13]) if small else (FITTED, TRIED)
    times, others = measure(fitted, small), measure(tried, small)
    print("The bodies of a layer of splines in onnxruntime, float, one thread, CPU time a call")
    print(machine("numpy", "onnxruntime"))
    print("\nConstants that fit, in the order of the model's formula:")
    for how, constants in fit(times).items():
        print(f'    "{how}": ({", ".join(f"{constant:.3g}" for constant in constants)}),')
    print("\n" + report(others))


def measure(shapes: Sequence[Shape], small: bool) -> Times:
    """CPU seconds per call of every body at each number of rows."""
    found: Times = {}
    for shape in shapes:
        kan = network(shape)
        backends = {how: backend(kan, how) for how in CONSTANTS}
        for rows in ROWS:
            x = np.random.default_rng(1).uniform(-1, 1, (rows, shape.inputs)).astype(np.float32)
            calls: dict[str, Callable[[], object]] = {how: _call(backend, x) for how, backend in backends.items()}
            seconds = interleaved(calls, *((1, 1e-4) if small else (5, 2e-3)))
            found |= {(shape, how, rows): seconds[how] for how in backends}
    return found


def network(shape: Shape) -> Kan:
    """One layer of random splines on one grid, with linear extrapolation."""
    rng = np.random.default_rng(0)
    coefficients = rng.normal(0, 0.3, (shape.columns, shape.inputs, shape.intervals + shape.order))
    weights = rng.normal(0, 0.3, (shape.columns, shape.inputs))
    knots = uniform_knots(-1, 1, shape.intervals, shape.order)
    return Kan((make_layer(coefficients, knots=knots, order=shape.order, base_weight=weights),))


def backend(kan: Kan, how: How) -> runtime.OnnxBackend:
    with native.disable_kernels():
        return runtime.load({runtime.FILE: onnx_graph.export_as(kan, ExportOptions(precision="float"), how)})


def _call(one: runtime.OnnxBackend, x: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    return lambda: one.predict(x)


def fit(times: Times) -> dict[How, NDArray[np.float64]]:
    """The constants of each body in µs, by non-negative least squares of the relative errors."""
    fitted: dict[How, NDArray[np.float64]] = {}
    for how in CONSTANTS:
        rows = [(shape.terms(how, rows), 1e6 * t) for (shape, form, rows), t in times.items() if form == how]
        terms, seconds = np.array([term for term, _ in rows]), np.array([time for _, time in rows])
        fitted[how] = nnls(terms / seconds[:, None], np.ones(len(seconds)))[0]
    return fitted


def report(times: Times) -> str:
    """The chosen and the best body of each shape, by the smallest speed-up over the plain graph, and the difference."""
    lines, regrets = [], []
    for shape in dict.fromkeys(shape for shape, _, _ in times):
        cost = {how: max(1e6 * times[shape, how, rows] / plain(shape, rows) for rows in ROWS) for how in CONSTANTS}
        best, chosen = min(cost, key=cost.__getitem__), cheapest(shape, bumps=True, fine=shape.intervals > FINE)
        regrets.append(cost[chosen] / cost[best] - 1)
        lines.append(
            [f"[{shape.inputs}, {shape.columns}]", str(shape.intervals), str(shape.order), chosen, best]
            + [f"{1e6 * times[shape, chosen, rows]:.1f}" for rows in ROWS]
            + [f"{microseconds(shape, chosen, rows) / times[shape, chosen, rows] / 1e6:.2f}" for rows in ROWS]
            + [f"{regrets[-1]:.0%}"]
        )
    head = ["layer", "G", "k", "chosen", "best", *(f"{rows} rows, µs" for rows in ROWS)]
    head += [*(f"guess at {rows}" for rows in ROWS), "worse by"]
    end = f"Worse than the best body by {np.mean(regrets):.0%} in the mean, {np.max(regrets):.0%} at most."
    return table(head, lines) + "\n\n" + end


if __name__ == "__main__":
    main(sys.argv[1:])
