"""Continual learning without forgetting: five peaks, learned one after the other (KAN paper, 3.4).

    y = Σ exp(-300·(x - c)²), c = -0.8, -0.4, 0, 0.4, 0.8; 100 points around one peak at a time

After each peak the table shows the root mean squared error on the points of all peaks so far, and at the end on 2,000
other points. A spline's coefficients act only near their knots, so what was learned elsewhere is kept, under four
conditions; the table also shows each of them violated:

- splines only: no base function (`create(.., base="zero")`), whose weight acts everywhere;
- no ridge towards 0: `refine(.., ridge=0)`, or `proximal` instead, a ridge around the present parameters;
- a fixed grid, so fine that basis functions are narrower than the gaps between the data of different phases;
- one layer. With two, every edge of the second is shared by all x: [1,5,1] forgets, as a perceptron does.

    OMP_NUM_THREADS=1 python -m examples.continual [--small] [--picture continual.png]
"""

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._pykan import elsewhere
from benchmarks._timing import goal, installed, machine, table
from examples._mlp import Mlp, by_lbfgs, by_levenberg, regression, warm_up
from kanserve import create, evaluate
from kanserve.train import refine

Array = NDArray[np.float64]
Predict = Callable[[Array], Array]
Learner = Callable[[list[Array], float], list[Predict]]
"""A function from the points of each phase and the CPU seconds per phase to a predictor after each phase."""

CENTRES = np.linspace(-0.8, 0.8, 5)
PHASES = [(centre + np.linspace(-0.2, 0.2, 100))[:, None] for centre in CENTRES]
BETWEEN = np.linspace(-1, 1, 2001)[:, None]


def peaks(x: Array) -> Array:
    return np.asarray(np.exp(-300 * (x - CENTRES) ** 2).sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Result:
    errors: tuple[float, ...]  # after each phase, on all points so far
    between: float
    seconds: float


def ours(
    phases: list[Array],
    _: float,
    shape: Sequence[int] = (1, 1),
    grid: int = 200,
    base: str = "zero",
    ridge: float = 0.0,
    proximal: float = 1e-10,
    steps: int = 60,
) -> list[Predict]:
    kan = create(shape, grid=grid, base=base)  # type: ignore[arg-type]  # one of its three names
    found: list[Predict] = []
    for x in phases:
        kan = refine(kan, x, peaks(x), steps=steps, ridge=ridge, proximal=proximal)
        found.append(partial(evaluate, kan))
    return found


def perceptron(phases: list[Array], seconds: float, mlp: Mlp, trainer: str) -> list[Predict]:
    vector = mlp.start(0)
    found: list[Predict] = []

    def predict(theta: torch.Tensor, x: Array) -> Array:
        return np.asarray(mlp.jet(theta, torch.from_numpy(x), 0)[0].numpy())

    for x in phases:
        train = by_levenberg if trainer == "LM" else by_lbfgs
        vector, _ = train(vector, regression(mlp, x, peaks(x)), seconds)
        found.append(partial(predict, vector))
    return found


def pykan(phases: list[Array], _: float, steps: int = 50) -> list[Predict]:
    """As in pykan's own example: 200 intervals, no base function, fixed scales, no grid update."""
    kan = importlib.import_module("kan")
    found: list[Predict] = []
    with elsewhere():
        options = {"noise_scale": 0.1, "sp_trainable": False, "sb_trainable": False, "base_fun": "zero"}
        model = kan.KAN(width=[1, 1], grid=200, k=3, seed=0, auto_save=False, ckpt_path=".", **options)
        for x in phases:
            rows, answers = torch.from_numpy(x), torch.from_numpy(peaks(x))
            data = {"train_input": rows, "train_label": answers, "test_input": rows, "test_label": answers}
            model.fit(data, opt="LBFGS", steps=steps, update_grid=False)
            state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            found.append(partial(_pykan_predict, model, state))
    return found


def _pykan_predict(model: "torch.nn.Module", state: dict[str, torch.Tensor], x: Array) -> Array:
    model.load_state_dict(state)
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(x)).numpy())


BEST = "KAN 1-1, G = 200, no base, proximal 1e-10"
TWO_LAYERS = "KAN 1-5-1, the same"
PERCEPTRON = "MLP by LM"
LEARNERS: dict[str, Learner] = {
    BEST: ours,
    "no proximal": partial(ours, proximal=0.0),
    "ridge 1e-10 towards 0": partial(ours, ridge=1e-10, proximal=0.0),
    "SiLU as the base": partial(ours, base="silu"),
    "G = 50": partial(ours, grid=50),
    "G = 20": partial(ours, grid=20),
    TWO_LAYERS: partial(ours, shape=(1, 5, 1), steps=15),
    "KAN 1-5-1, proximal 1e-4": partial(ours, shape=(1, 5, 1), steps=15, proximal=1e-4),
    "MLP by LBFGS": partial(perceptron, mlp=Mlp((1, 32, 32, 1), "silu"), trainer="LBFGS"),
    PERCEPTRON: partial(perceptron, mlp=Mlp((1, 12, 12, 1), "tanh"), trainer="LM"),
}
SMALL = (BEST, "ridge 1e-10 towards 0", "G = 20", PERCEPTRON)


def study(small: bool = False) -> dict[str, Result]:
    """Run each learner through the phases; perceptrons have one second per phase, more than ours needs in all."""
    warm_up()
    learners = {name: LEARNERS[name] for name in SMALL} if small else dict(LEARNERS)
    if installed("pykan") and not small:
        learners["pykan 1-1, G = 200, no base"] = pykan
    results = {}
    for name, learn in learners.items():
        begun = time.process_time()
        found = learn(PHASES, 0.1 if small else 1.0)
        seconds = time.process_time() - begun
        errors = tuple(error(run, np.concatenate(PHASES[: n + 1])) for n, run in enumerate(found))
        results[name] = Result(errors, error(found[-1], BETWEEN), seconds)
    return results


def error(run: Predict, x: Array) -> float:
    return float(np.sqrt(np.mean((run(x) - peaks(x)) ** 2)))


def report(results: dict[str, Result]) -> str:
    head = ["RMSE after peak", "1", "2", "3", "4", "5", "between", "CPU s"]
    body = [
        [name, *(f"{value:.1e}" for value in (*result.errors, result.between)), f"{result.seconds:.2f}"]
        for name, result in results.items()
    ]
    worst = max(results[BEST].errors)
    perceptrons = [result.errors[-1] for name, result in results.items() if name.startswith("MLP")]
    lines = ["Continual learning of five peaks, float64, one thread", machine("numpy", "torch", "pykan"), ""]
    lines += [
        table(head, body),
        "",
        goal(worst <= 1e-5, f"RMSE on all peaks so far ≤ 1e-5 after each of the five: {worst:.1e}"),
    ]
    lines += [goal(min(perceptrons) >= 0.1, f"a perceptron forgets, RMSE ≥ 0.1: {min(perceptrons):.1e}")]
    if TWO_LAYERS in results:
        shown = ", ".join(f"{value:.1e}" for value in results[TWO_LAYERS].errors)
        lines += [f"It holds for one layer only. With two, forgetting begins at the second peak: {shown}"]
    return "\n".join(lines)


def picture(path: str) -> None:
    """Save a picture of our network and a perceptron after each peak."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    warm_up()
    figure, axes = plt.subplots(2, 5, figsize=(11, 3.2), sharex=True, sharey=True, layout="constrained")
    for n, ax in enumerate(axes[0], start=1):
        ax.set_title(f"after peak {n}")
    for row, name in zip(axes, (BEST, PERCEPTRON), strict=True):
        row[0].set_ylabel(name.split(", no base")[0])
        for ax, run in zip(row, LEARNERS[name](PHASES, 1.0), strict=True):
            ax.plot(BETWEEN, peaks(BETWEEN), color="0.75", linewidth=3)
            ax.plot(BETWEEN, run(BETWEEN), color="#1f5fbf", linewidth=1)
            ax.set_ylim(-0.5, 1.5)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Five peaks, one after the other.")
    parser.add_argument("--small", action="store_true", help="only show that it works")
    parser.add_argument("--picture", metavar="PATH", help="save what networks give after each peak")
    options = parser.parse_args(arguments)
    print(report(study(options.small)))
    if options.picture:
        picture(options.picture)


if __name__ == "__main__":
    main()
