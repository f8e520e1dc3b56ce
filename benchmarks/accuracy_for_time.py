"""Accuracy for a given time: the test error of each library after so many CPU seconds of training, on one thread.

Six functions with 2000 exact rows, a fifth of them held out; every network has the shape [inputs, 5, 1] and splines on
5 intervals, where it has splines. Ours is `fit` on one grid, then on two, three and more, with the time of all these
runs added up. flashkan, inkan and a KAN in plain torch train by Adam and by LBFGS, and the better of the two counts;
jaxkan by Adam in float64; pykan by its own LBFGS; the perceptrons, twice as wide and deep, by LBFGS and by
Levenberg-Marquardt. Of all states up to a time the one with the least error on the held-out rows counts. What a library
compiles before its first step is not counted, nor is the computation of errors.

    OMP_NUM_THREADS=1 python benchmarks/accuracy_for_time.py [--small] [--picture FILE]
"""

import copy
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _steps  # which sets jax to one thread before it is imported
from benchmarks._perceptron import Perceptron, trained
from benchmarks._pykan import elsewhere
from benchmarks._timing import goal, installed, machine, table
from benchmarks._torch_kan import to_torch
from benchmarks.against_mlp import HELD, PROBLEMS, ROWS, TEST_ROWS, Problem
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.train import create, fit

Array = NDArray[np.float64]
Run = Callable[[Array], Array]  # rows (N, inputs) in [-1, 1] to standardised answers (N,)

HIDDEN, GRID = 5, 5
GRIDS = (3, 5, 10, 20, 40, 80)
TIMES = (0.1, 0.3, 1.0, 3.0, 10.0)
SMALL_TIMES = (0.05, 0.1)
RATE = 1e-2  # of Adam
GROWTH = 1.25  # of the times at which errors are computed
CHOSEN = (0, 1, 3, 5, 6, 8)  # of PROBLEMS
OURS = "kanserve"


@dataclass
class Trace:
    """The held-out and the test error of a network, relative to the answers' deviation, after so many CPU seconds."""

    points: list[tuple[float, float, float]] = field(default_factory=list)

    def at(self, seconds: float) -> float:
        """The test error of the best state, by the held-out rows, that was reached in time; NaN without one."""
        known = [(held, test) for spent, held, test in self.points if spent <= seconds and np.isfinite(held)]
        return min(known)[1] if known else np.nan


@dataclass(frozen=True)
class Rows:
    """Inputs scaled to [-1, 1], standardised answers."""

    train: Dataset
    held: Dataset
    test: Dataset

    @classmethod
    def of(cls, problem: Problem, seed: int) -> "Rows":
        every, test = problem.rows(ROWS, seed), problem.rows(TEST_ROWS, 10_000)
        low, high = np.array(problem.ranges).T
        shift, scale = every.y.mean(), every.y.std()
        scaled = [Dataset(2 * (rows.x - low) / (high - low) - 1, (rows.y - shift) / scale) for rows in (every, test)]
        return cls(*scaled[0].split(HELD, seed), scaled[1])

    def errors(self, run: Run) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            errors = [np.sqrt(np.mean((run(rows.x) - rows.y[:, 0]) ** 2)) for rows in (self.held, self.test)]
        return float(errors[0]), float(errors[1])

    @property
    def inputs(self) -> int:
        return len(self.train.inputs)


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    problems, seeds = [PROBLEMS[n] for n in CHOSEN][: 1 if small else None], range(1 if small else 3)
    times = SMALL_TIMES if small else TIMES
    print(f"Accuracy for a given time\n{machine('flashkan', 'inkan', 'jaxkan', 'pykan', 'torch', 'numpy')}", flush=True)
    results = {}
    for problem in problems:
        results[problem.name] = measure(problem, seeds, times)
        print(f"\n{report_of(problem.name, results[problem.name], times)}", flush=True)
    print(f"\n{verdict(results, times)}")
    if "--picture" in arguments:
        draw(results, times, Path(arguments[arguments.index("--picture") + 1]))


def measure(problem: Problem, seeds: Sequence[int], times: Sequence[float]) -> dict[str, list[Trace]]:
    """The traces of each library, one a seed; the libraries in turn on the same rows."""
    torch.set_num_threads(1)
    found: dict[str, list[Trace]] = {}
    for seed in seeds:
        rows = Rows.of(problem, seed)
        for name, method in METHODS.items():
            if name in ("flashkan", "inkan", "jaxkan", "pykan") and not installed(name):
                continue
            found.setdefault(name, []).append(method(rows, seed, times))
    return found


def ours(rows: Rows, seed: int, times: Sequence[float]) -> Trace:
    trace, spent = Trace(), 0.0
    for count in range(1, len(GRIDS) + 1):
        begun = time.process_time()
        kan = fit(
            [rows.inputs, HIDDEN, 1], rows.train, grid=GRIDS[:count], validation=rows.held, noise_free=True, seed=seed
        )
        spent += time.process_time() - begun
        trace.points.append((spent, *rows.errors(lambda x, kan=kan: evaluate(kan, x)[:, 0])))  # type: ignore[misc]
        if spent > times[-1]:
            break
    return trace


def traced(rows: Rows, steps: Iterator[Run], times: Sequence[float]) -> Trace:
    """The trace of a training that gives its present network after each step."""
    trace, spent, due = Trace(), 0.0, times[0] / 4
    next(steps)  # a warm-up: what is compiled
    while spent < times[-1]:
        begun = time.process_time()
        run = next(steps, None)
        spent += time.process_time() - begun
        if run is None:
            break
        if spent >= due:
            trace.points.append((spent, *rows.errors(run)))
            due = GROWTH * spent
    return trace


def descended(model: Any, rows: Rows, method: str) -> Iterator[Run]:
    """Steps of Adam or LBFGS in torch, in the type of the model's parameters."""
    dtype = next(parameter for parameter in model.parameters() if parameter.is_floating_point()).dtype
    x, y = (torch.tensor(array, dtype=dtype) for array in (rows.train.x, rows.train.y))
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if method == "Adam":
        optimizer: Any = torch.optim.Adam(own, lr=RATE)
    else:
        optimizer = torch.optim.LBFGS(own, max_iter=20, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        return loss

    def run(new: Array) -> Array:
        with torch.no_grad():
            values: Array = model(torch.tensor(new, dtype=dtype)).double().numpy()[:, 0]
        return values

    begin = copy.deepcopy(model.state_dict())
    closure()
    model.load_state_dict(begin)
    yield run
    while True:
        optimizer.step(closure)
        yield run


def by_torch(make: Callable[[Rows, int], Any], methods: Sequence[str] = ("Adam", "LBFGS")) -> "Method":
    """A method that trains torch modules by each optimizer; at each time the better one on the held-out rows counts."""

    def method(rows: Rows, seed: int, times: Sequence[float]) -> Trace:
        points = []
        for optimizer in methods:
            torch.manual_seed(seed)
            points += traced(rows, descended(make(rows, seed), rows, optimizer), times).points
        return Trace(points)

    return method


def jaxkan(rows: Rows, seed: int, times: Sequence[float]) -> Trace:
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    jax.config.update("jax_enable_x64", True)
    x, y = jax.numpy.asarray(rows.train.x), jax.numpy.asarray(rows.train.y)
    step, values = _compiled(rows.inputs)

    def run(state: Any, new: Array) -> Array:
        return np.asarray(values(state, new))[:, 0]

    def steps() -> Iterator[Run]:
        _, state = nnx.split(_in_jax(rows.inputs, seed))
        while True:
            state = jax.block_until_ready(step(state, x, y))
            yield functools.partial(run, state)

    return traced(rows, steps(), times)


def _in_jax(inputs: int, seed: int) -> tuple[Any, Any]:
    """A network of jaxkan, and Adam for it."""
    nnx, optax = import_module("flax.nnx"), import_module("optax")
    model = import_module("jaxkan.models.KAN").KAN(
        [inputs, HIDDEN, 1], "spline", {"k": _steps.ORDER, "G": GRID}, seed=seed
    )
    return model, nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)


@functools.cache
def _compiled(inputs: int) -> tuple[Callable[[Any, Any, Any], Any], Callable[[Any, Any], Any]]:
    """A step of Adam, and the network's values, by the state of both: compiled once for all seeds and functions."""
    jax, nnx = import_module("jax"), import_module("flax.nnx")
    graph, _ = nnx.split(_in_jax(inputs, 0))

    def step(state: Any, x: Any, y: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        gradient = nnx.grad(lambda own: ((own(x) - y) ** 2).mean())(model)
        optimizer.update(model, gradient)
        return nnx.state((model, optimizer))

    def values(state: Any, new: Any) -> Any:
        return nnx.merge(graph, state)[0](new)

    return jax.jit(step), jax.jit(values)


def pykan(rows: Rows, seed: int, times: Sequence[float]) -> Trace:
    kan: Any = import_module("kan")
    tensors = [torch.from_numpy(array) for rows in (rows.train, rows.held) for array in (rows.x, rows.y)]
    data = dict(zip(("train_input", "train_label", "test_input", "test_label"), tensors, strict=True))
    with elsewhere():
        width = [rows.inputs, HIDDEN, 1]
        model = kan.KAN(width=width, grid=GRID, k=_steps.ORDER, seed=seed, auto_save=False)

        def run(new: Array) -> Array:
            with torch.no_grad():
                values: Array = model(torch.from_numpy(new)).numpy()[:, 0]
            return values

        def steps() -> Iterator[Run]:
            yield run
            while True:
                model.fit(data, opt="LBFGS", steps=1)
                yield run

        return traced(rows, steps(), times)


def perceptron_by_squares(rows: Rows, seed: int, times: Sequence[float]) -> Trace:
    """Levenberg-Marquardt, one run for each time: it cannot be looked at on its way."""
    trace = Trace()
    net = Perceptron((rows.inputs, 2 * HIDDEN, 2 * HIDDEN, 1), "tanh")
    for seconds in times:
        found = trained([net], rows.train, rows.held, rows.train, seconds, seed)
        trace.points.append((seconds, *rows.errors(found.run)))
    return trace


def _perceptron(rows: Rows, _: int) -> torch.nn.Module:
    widths = [rows.inputs, 2 * HIDDEN, 2 * HIDDEN, 1]
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(widths):
        layers += [torch.nn.Linear(before, after, dtype=torch.float64), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def _network(library: str) -> Callable[[Rows, int], Any]:
    def make(rows: Rows, _: int) -> Any:
        return import_module(library).KANNetwork([rows.inputs, HIDDEN, 1], grid_size=GRID).double()

    return make


def _plain(rows: Rows, seed: int) -> Any:
    return to_torch(create([rows.inputs, HIDDEN, 1], grid=GRID, seed=seed), torch.float64)


Method = Callable[[Rows, int, Sequence[float]], Trace]
METHODS: dict[str, Method] = {
    OURS: ours,
    "flashkan": by_torch(_network("flashkan")),
    "inkan": by_torch(_network("inkan")),
    "torch": by_torch(_plain),
    "jaxkan": jaxkan,
    "pykan": pykan,
    "MLP by LBFGS": by_torch(_perceptron, ("LBFGS",)),
    "MLP by LM": perceptron_by_squares,
}

Results = Mapping[str, Mapping[str, Sequence[Trace]]]  # by problem and library, one trace a seed


def report_of(problem: str, traces: Mapping[str, Sequence[Trace]], times: Sequence[float]) -> str:
    """The median errors of the seeds after each time."""
    head = [problem, *(f"{seconds:g} s" for seconds in times)]
    return table(head, [[name, *(_cell(median(of, seconds)) for seconds in times)] for name, of in traces.items()])


def verdict(results: Results, times: Sequence[float]) -> str:
    """In how many cells ours has the least error, and where it has not."""
    misses = []
    for problem, traces in results.items():
        for seconds in times:
            others = [median(of, seconds) for name, of in traces.items() if name != OURS]
            if not median(traces[OURS], seconds) <= min(error for error in others if not np.isnan(error)):
                misses.append(f"{problem} at {seconds:g} s")
    whole = len(results) * len(times)
    return goal(not misses, f"ours is the most accurate in {whole - len(misses)} of {whole} cells", misses)


def median(traces: Sequence[Trace], seconds: float) -> float:
    return float(np.median([trace.at(seconds) for trace in traces]))


def _cell(error: float) -> str:
    return "-" if np.isnan(error) else f"{error:.1e}"


def draw(results: Results, times: Sequence[float], path: Path) -> None:
    """A panel for each function: the median error over the CPU seconds, both logarithmic."""
    plt: Any = import_module("matplotlib.pyplot")
    figure, panels = plt.subplots(2, (len(results) + 1) // 2, figsize=(11, 6), squeeze=False, sharex=True)
    grid = np.geomspace(times[0], times[-1], 40)
    for (problem, traces), axes in zip(results.items(), panels.ravel(), strict=False):
        for number, (name, of) in enumerate(traces.items()):
            errors = [median(of, seconds) for seconds in grid]
            style: dict[str, Any] = {"color": f"C{number}", "label": name, "linewidth": 2.4 if name == OURS else 1.1}
            axes.loglog(grid, errors, zorder=3 if name == OURS else 2, **style)
        axes.set_title(problem, fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.5)
    for axes in panels[-1]:
        axes.set_xlabel("CPU seconds")
    for axes in panels[:, 0]:
        axes.set_ylabel("test error / deviation")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path)


if __name__ == "__main__":
    main(sys.argv[1:])
