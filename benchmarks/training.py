"""Training: complete tasks with goals (`_training_goals`), then exp(sin πx + y²) beside peers; float64, CPU seconds.

In the second table ours is `fit` by Levenberg-Marquardt. The peers are the same network in plain torch, from one random
start, on grids over [-1, 1], with standardised answers and the same sequence of grids, trained by torch's LBFGS and
Adam for our CPU seconds, and by LBFGS for ten times as many; and pykan, if installed, without a time limit. Errors are
on 10,000 new rows, in units of the answer: the median of the seeds and, in brackets, the worst.

`--pure` runs the first table's tasks with and without the C kernels instead, for two of the ten seeds.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--small] [--pure]
"""

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _training_goals as goals
from benchmarks._pykan import elsewhere
from benchmarks._timing import installed, machine, table
from benchmarks._torch_kan import finer, from_torch, to_torch
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.train import create, fit

Array = NDArray[np.float64]

OURS, PEERS = "ours", ("LBFGS", "Adam", "LBFGS, 10x", "pykan")
PYKAN_STEPS = 20  # on each grid, as in its own example of this function


@dataclass(frozen=True)
class Task:
    """A network to train: its shape, the sequence of grids, the number of rows, and the held-out share."""

    shape: tuple[int, ...]
    grids: tuple[int, ...]
    rows: int
    validation: float


SCALING = tuple(Task((2, 1, 1), (3, 5, 10, 20, 50)[:n], 3000, 0.0) for n in range(1, 6))
TASKS = (Task((2, 5, 1), (3, 5, 10), 1000, 0.2), *SCALING)
SMALL = (Task((2, 1, 1), (3,), 100, 0.0), Task((2, 1, 1), (3, 5), 100, 0.0))


@dataclass(frozen=True)
class Result:
    """The test error of a trained network, root mean square and median, and the CPU seconds."""

    rmse: float
    median: float
    seconds: float


Results = Mapping[str, Sequence[Result]]  # of each trainer, one a seed


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    whole = [task for task in goals.tasks() if not small or task.name in goals.SMALL]
    print(f"Training, ours, float64, one thread: test RMSE\n{machine('numpy', 'torch')}\n")
    if "--pure" in arguments:
        print(goals.compare(whole, *(goals.measure(whole, pure, goals.PURE_SEEDS) for pure in (False, True))))
        return
    print(goals.report(whole, goals.measure(whole, seeds=goals.SEEDS[:1] if small else None)), end="\n\n")
    tasks, seeds = (SMALL, 1) if small else (TASKS, 3)
    print(report({task: measure(task, seeds) for task in tasks}, seeds))


def target(x: Array) -> Array:
    return np.exp(np.sin(np.pi * x[:, :1]) + x[:, 1:] ** 2)


def sample(rows: int, seed: int) -> Dataset:
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, 2))
    return Dataset(x, target(x))


def measure(task: Task, seeds: int) -> Results:
    torch.set_num_threads(1)
    train, test = sample(task.rows, 0), sample(10_000, 1)
    descend(task, train, "LBFGS", 0.0, 0)  # warm-up of torch
    results: dict[str, list[Result]] = {name: [] for name in (OURS, *PEERS)}
    for seed in range(seeds):
        begun = time.process_time()
        kan = fit(task.shape, train, grid=task.grids, validation=task.validation, noise_free=True, seed=seed)
        spent = time.process_time() - begun
        results[OURS].append(_result(lambda x, kan=kan: evaluate(kan, x), test, spent))  # type: ignore[misc]  # a lambda
        for name, seconds in (("LBFGS", spent), ("Adam", spent), ("LBFGS, 10x", 10 * spent)):
            begun = time.process_time()
            run = descend(task, train, name.split(",")[0], seconds, seed)
            results[name].append(_result(run, test, time.process_time() - begun))
        if installed("pykan"):
            begun = time.process_time()
            run = pykan(task, train, test, seed)
            results["pykan"].append(_result(run, test, time.process_time() - begun))
    return results


def _result(run: Callable[[Array], Array], test: Dataset, seconds: float) -> Result:
    errors = np.abs(run(test.x) - test.y)
    return Result(float(np.sqrt((errors**2).mean())), float(np.median(errors)), seconds)


def descend(task: Task, data: Dataset, method: str, seconds: float, seed: int) -> Callable[[Array], Array]:
    """Train the task's network in plain torch for so many CPU seconds, shared by its grids; at least a step on each."""
    kan = create(task.shape, grid=task.grids[0], seed=seed)
    shift, scale = data.y.mean(axis=0), data.y.std(axis=0)
    x, y = torch.from_numpy(data.x), torch.from_numpy((data.y - shift) / scale)
    for intervals in task.grids:
        module = to_torch(finer(kan, intervals), torch.float64)
        _descend(module, x, y, method, seconds / len(task.grids))
        kan = from_torch(module)

    def run(rows: Array) -> Array:
        with torch.inference_mode():
            answers: Array = module(torch.from_numpy(rows)).numpy()
        result: Array = answers * scale + shift
        return result

    return run


def _descend(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, method: str, seconds: float) -> None:
    begun = time.process_time()
    optimizer: torch.optim.Optimizer
    if method == "LBFGS":
        # Few iterations per step, so that the time is checked often; the history is kept between steps.
        optimizer = torch.optim.LBFGS(module.parameters(), max_iter=3, line_search_fn="strong_wolfe")
    else:
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.mean((module(x) - y) ** 2)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.item()

    step: Callable[[Callable[[], float]], object] = optimizer.step
    step(closure)
    while time.process_time() - begun < seconds:
        step(closure)


def pykan(task: Task, train: Dataset, test: Dataset, seed: int) -> Callable[[Array], Array]:
    """The network trained by pykan, on the same sequence of grids."""
    kan = importlib.import_module("kan")
    rows = {"train_input": train.x, "train_label": train.y, "test_input": test.x, "test_label": test.y}
    data = {name: torch.from_numpy(values) for name, values in rows.items()}
    with elsewhere():
        model = kan.KAN(width=list(task.shape), grid=task.grids[0], k=3, seed=seed, auto_save=False, ckpt_path=".")
        for intervals in task.grids:
            model = model.refine(intervals) if intervals != task.grids[0] else model
            model.fit(data, opt="LBFGS", steps=PYKAN_STEPS)

    def run(x: Array) -> Array:
        answers: Array = model(torch.from_numpy(x)).detach().numpy()
        return answers

    return run


def report(results: Mapping[Task, Results], seeds: int) -> str:
    head = ["shape", "G", "rows", "parameters", "CPU s", "ours", *PEERS, "pykan s", "best peer/ours"]
    body = []
    for task, by_method in results.items():
        equal = min(np.median([result.rmse for result in by_method[name]]) for name in ("LBFGS", "Adam"))
        body.append(
            ["-".join(map(str, task.shape)), str(task.grids[-1]), str(task.rows), str(_parameters(task))]
            + [f"{np.median([result.seconds for result in by_method[OURS]]):.2f}", _errors(by_method[OURS])]
            + [_errors(by_method[name]) for name in PEERS]
            + [f"{np.median([r.seconds for r in by_method['pykan']]):.0f}" if by_method["pykan"] else "-"]
            + [f"{equal / np.median([result.rmse for result in by_method[OURS]]):,.0f}x"]
        )
    lines = [
        f"Training exp(sin πx + y²), float64, one thread: test RMSE, median (worst) of {seeds} seeds",
        machine("numpy", "torch", "pykan"),
        "LBFGS and Adam have the CPU seconds of ours; the last column is the better of the two at equal seconds.",
        "",
        table(head, body),
    ]
    return "\n".join(lines)


def _parameters(task: Task) -> int:
    edges = sum(i * o for i, o in pairwise(task.shape))
    return edges * (task.grids[-1] + 4)


def _errors(results: Sequence[Result]) -> str:
    if not results:
        return "not installed"
    values = [result.rmse for result in results]
    return f"{np.median(values):.1e} ({np.max(values):.1e})"


if __name__ == "__main__":
    main(sys.argv[1:])
