"""Inference: the same networks in float32 on one thread, in every form in which they can be run.

Peers are the network in plain torch and that module's torch.onnx.export in stock onnxruntime. Ours are our ONNX file in
the same onnxruntime, with and without our operators, and in OpenVINO, the C library called from C and from Python, and
the NumPy module. Errors are relative to `network.evaluate.evaluate`. A second table has networks of other libraries, of
the same shapes and exported by torch: other weights, the same amount of work.

    OMP_NUM_THREADS=1 python benchmarks/inference.py [--small] [--nets AC]
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from benchmarks import _in_c
from benchmarks._inference_forms import Array, exports, forms, others
from benchmarks._timing import goal, interleaved, machine, table
from kanserve.network import evaluate
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import uniform_knots

NETS = {
    "A": ([4, 10, 1], 5),
    "B": ([4, 10, 10, 1], 50),
    "C": ([64, 64, 64, 10], 5),
    "D": ([784, 64, 10], 5),
    "E": ([784, 64, 10], 50),
}
BATCHES = (1, 32, 1024)
IN_C = "C from C"
ONNX = ("our ONNX", "our operator")
OURS = (*ONNX, "OpenVINO", "our C", "our NumPy")  # forms with a goal for the error
TIMES_FASTER = {"our ONNX": 3.0, "our operator": 7.0}  # than the peer's file
PEAK_GOAL = 0.5  # of the core's peak multiply-adds
ROW_GOALS = {"A": 100e-9, "C": 2.5e-6}  # seconds per row, called from C
CALL_GOAL = 1e-6  # seconds for one row of A, called from Python


@dataclass(frozen=True)
class Row:
    """One network and batch: CPU seconds per call of each form, and its error relative to the largest output."""

    net: str
    batch: int
    seconds: Mapping[str, float]
    errors: Mapping[str, float]

    def ratio(self, form: str) -> float:
        """How many times faster a form is than torch's ONNX file."""
        return self.seconds["its ONNX"] / self.seconds[form]

    @property
    def allowed(self) -> float:
        """The largest error that counts as agreement: 1e-5, or twice that of torch in float32 if larger."""
        return max(1e-5, 2 * self.errors["torch"])

    @property
    def products_per_second(self) -> float:
        """The necessary multiply-adds per second in C: k + 1 active basis functions and the base for each edge."""
        shape, _ = NETS[self.net]
        return self.batch * 5 * sum(i * o for i, o in pairwise(shape)) / self.seconds[IN_C]


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    nets = arguments[arguments.index("--nets") + 1] if "--nets" in arguments else "AC" if small else "ABCDE"
    rows, peak = measure(nets, small)
    print(report(rows, peak))
    print()
    print(report_others(measure_others([net for net in nets if net in "ABC"], small), rows))


def network(name: str) -> Kan:
    """Random splines that keep hidden values near the grids; they are zero outside, like those of the peers."""
    shape, intervals = NETS[name]
    rng = np.random.default_rng(0)
    layers = []
    for i, o in pairwise(shape):
        coefficients, weights = rng.normal(0, i**-0.5, (o, i, intervals + 3)), rng.normal(0, i**-0.5, (o, i))
        knots = uniform_knots(-1, 1, intervals, 3)
        layers.append(make_layer(coefficients, knots=knots, base_weight=weights, extrapolation="zero"))
    return Kan(tuple(layers))


def measure(nets: Iterable[str], small: bool = False) -> tuple[list[Row], float]:
    """All nets and batches, and the core's peak multiply-adds per second."""
    torch.set_num_threads(1)
    rows = []
    for name in nets:
        kan = network(name)
        x, files = _x(len(kan.inputs)), exports(kan)
        called, in_c = forms(kan, files), _in_c.InC(files["c_source"])
        wanted = evaluate.evaluate(kan, x)
        errors = {form: float(np.abs(run(x) - wanted).max() / np.abs(wanted).max()) for form, run in called.items()}
        for batch in BATCHES:
            calls = {form: _call(run, x[:batch]) for form, run in called.items()}
            calls[IN_C] = in_c.repeated(x[:batch], len(kan.outputs))
            seconds = interleaved(calls, *_effort(small))
            seconds[IN_C] /= _in_c.REPEATS
            rows.append(Row(name, batch, seconds, errors))
    # The fastest of several tries: the peak of an undisturbed core.
    peaks = [_in_c.peak(lambda call: interleaved({"": call}, 1, 1e-3)[""]) for _ in range(1 if small else 7)]
    return rows, max(peaks)


def measure_others(nets: Iterable[str], small: bool = False) -> dict[tuple[str, int], Mapping[str, float]]:
    """CPU seconds per call of other libraries' networks."""
    found: dict[tuple[str, int], Mapping[str, float]] = {}
    for name in nets:
        shape, intervals = NETS[name]
        called = others(shape, intervals)
        x = _x(shape[0])
        for batch in BATCHES:
            found[name, batch] = interleaved(
                {form: _call(run, x[:batch]) for form, run in called.items()}, *_effort(small)
            )
    return found


def _x(inputs: int) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (1024, inputs)).astype(np.float32)


def _effort(small: bool) -> tuple[int, float]:
    """The number of rounds, and the seconds of each form per round."""
    return (1, 1e-4) if small else (15, 5e-3)


def _call(run: Callable[[Array], Array], x: Array) -> Callable[[], Array]:
    return lambda: run(x)


def report(rows: list[Row], peak: float) -> str:
    columns = [form for form in rows[0].seconds if form != IN_C] + [IN_C]
    head = ["net", "batch", *(f"{form}, µs" for form in columns)]
    ours = [form for form in TIMES_FASTER if form in columns]
    head += [*(f"{form} ahead" for form in ours), "C/peak"]
    body = [
        [row.net, str(row.batch)]
        + [_microseconds(row.seconds[form]) for form in columns]
        + [f"{row.ratio(form):.1f}x" for form in ours]
        + [f"{row.products_per_second / peak:.0%}"]
        for row in rows
    ]
    errors = {row.net: [row.net, *(f"{row.errors[form]:.1e}" for form in row.errors)] for row in rows}
    shapes = "; ".join(f"{name} {shape}, {intervals} intervals" for name, (shape, intervals) in NETS.items())
    return "\n".join(
        [
            "Inference, float32, one thread, CPU time a call",
            machine("numpy", "torch", "onnxruntime", "openvino"),
            f"{shapes}; cubic. The core can do {peak / 1e9:.0f} G products/s.",
            "",
            table(head, body),
            "",
            "Largest error of 1024 rows, in parts of the largest output",
            table(["net", *rows[0].errors], list(errors.values())),
            "",
            *_goals(rows, peak),
        ]
    )


def _goals(rows: list[Row], peak: float) -> list[str]:
    lines = []
    for form, times in TIMES_FASTER.items():
        if form in rows[0].seconds:
            slow = [f"{row.net} at {row.batch}" for row in rows if row.ratio(form) < times]
            lines.append(goal(not slow, f"{form} ≥ {times:g}x faster than torch's", slow))
        else:
            lines.append(goal(False, f"{form} ≥ {times:g}x faster than torch's: it is not built here"))
    far = sorted({f"{form} of {row.net}" for row in rows for form in OURS if row.errors.get(form, 0) > row.allowed})
    lines.append(goal(not far, "errors of ours ≤ 1e-5, or twice torch's", far))
    busy = [row for row in rows if row.net in "CD" and row.batch >= 32]
    idle = [f"{row.net} at {row.batch}" for row in busy if row.products_per_second < PEAK_GOAL * peak]
    lines.append(goal(not idle, f"C, nets C and D from 32 rows, ≥ {PEAK_GOAL:.0%} of the peak", idle))
    single = {row.net: row.seconds for row in rows if row.batch == 1}
    for net, most in ROW_GOALS.items():
        if net in single:
            taken = single[net][IN_C]
            lines.append(goal(taken <= most, f"C, a row of {net} from C ≤ {most * 1e9:.0f} ns: {taken * 1e9:.0f} ns"))
    if "A" in single:
        taken = single["A"]["our C"]
        what = f"C, a row of A from Python ≤ {CALL_GOAL * 1e6:g} µs: {taken * 1e6:.2f} µs"
        lines.append(goal(taken <= CALL_GOAL, what))
    return lines


def report_others(found: Mapping[tuple[str, int], Mapping[str, float]], rows: list[Row]) -> str:
    """The table of other libraries, beside the figures of `rows`, which were measured just before."""
    ours = {(row.net, row.batch): row.seconds for row in rows}
    names = sorted({form for forms in found.values() for form in forms})
    mine = [form for form in ONNX if form in rows[0].seconds]
    head = ["net", "batch", *(f"{form}, µs" for form in (*names, *mine)), "our ONNX ahead"]
    body, slow = [], []
    for key, seconds in found.items():
        times = min((seconds[form] / ours[key]["our ONNX"] for form in seconds), default=float("nan"))
        body.append([key[0], str(key[1]), *(_microseconds(seconds[form]) for form in names)])
        body[-1] += [*(_microseconds(ours[key][form]) for form in mine), f"{times:.1f}x"]
        if not times >= TIMES_FASTER["our ONNX"]:
            slow.append(f"{key[0]} at {key[1]}")
    least = f"our ONNX ≥ {TIMES_FASTER['our ONNX']:g}x faster than other libraries' networks exported by torch"
    title = "Networks of other libraries, of the same shapes, in the same onnxruntime"
    return "\n".join([title, machine("pykan", "inkan"), "", table(head, body), "", goal(not slow, least, slow)])


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}" if seconds < 1e-5 else f"{seconds * 1e6:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
