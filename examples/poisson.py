"""Differential equations: Poisson's equation of the KAN paper, and two nonlinear ones, beside perceptrons.

    u_xx + u_yy = f on [-1, 1]², u known on the boundary, with the solution u = sin(πx)·sin(πy²)

10,000 points inside, with weight 0.01, and 800 on the boundary. The solution gives f and the boundary values, and
measures the error: the mean squared error of u on 10,000 other points, median and worst of five seeds. Each perceptron
has the CPU seconds of our network and propagates derivatives forward as ours does; it is trained by torch's LBFGS, or
by our own Levenberg-Marquardt (LM), which is a stronger peer than the paper's.

    OMP_NUM_THREADS=1 python -m examples.poisson [--small]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._timing import goal, machine, table
from examples._mlp import Mlp, Squares, by_lbfgs, by_levenberg, warm_up
from kanserve import Kan, evaluate
from kanserve.pde import Residual, solve
from kanserve.train.lm.parameter_vector import free_parameters

Array = NDArray[np.float64]

VISCOSITY = 0.05
PAPER = Mlp((2, 100, 100, 100, 100, 1), "tanh")
EQUAL = Mlp((2, 17, 17, 17, 1), "silu")  # 681 parameters; ours has 690
SMALLER = Mlp((2, 12, 12, 12, 1), "silu")  # 361; ours has 360


@dataclass(frozen=True)
class Equation:
    """operator(u, [u_x, u_y], [u_xx, u_yy]) = source(x) inside, u = solution(x) on the boundary; and the solvers."""

    name: str
    operator: Callable[[Any, list[Any], list[Any]], Any]
    source: Callable[[Array], Array]
    solution: Callable[[Array], Array]
    shape: Sequence[int] = (2, 5, 1)
    grids: Sequence[int] = (5, 10, 20)
    peers: Sequence[tuple[Mlp, str]] = ((SMALLER, "LM"), (SMALLER, "LBFGS"))
    inside: int = 3000
    edge: int = 600
    weight: float = 0.01
    low: tuple[float, float] = (-1.0, -1.0)
    sides: int = 4  # how many of x = low, x = 1, y = low, y = 1 belong to the boundary

    @property
    def ours(self) -> str:
        return f"KAN {'-'.join(map(str, self.shape))}, G = {self.grids[-1]}"


def _swirl(x: Array) -> Array:
    return np.asarray(np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1] ** 2))


def _swirl_source(x: Array) -> Array:
    a, b = np.pi * x[:, 0], np.pi * x[:, 1] ** 2
    return np.asarray(np.sin(a) * (2 * np.pi * np.cos(b) - np.pi**2 * (1 + 4 * x[:, 1] ** 2) * np.sin(b)))


def _front(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp((x[:, 0] - x[:, 1] / 2) / (2 * VISCOSITY))))


def _waves(x: Array) -> Array:
    return np.asarray(2 * np.sin(np.pi * x[:, 0]) * np.cos(np.pi * x[:, 1]))


POISSON = Equation(
    "u_xx + u_yy = f",
    lambda u, d, dd: dd[0] + dd[1],
    _swirl_source,
    _swirl,
    shape=(2, 10, 1),
    grids=(5, 10, 19),
    peers=((PAPER, "LBFGS"), (EQUAL, "LBFGS"), (EQUAL, "LM")),
    inside=10_000,
    edge=800,
)
NONLINEAR = (
    Equation(
        # Burgers: a moving front, without values at t = 1. One tanh neuron is the exact solution.
        "u_t + u·u_x = 0.05·u_xx",
        lambda u, d, dd: d[1] + u * d[0] - VISCOSITY * dd[0],
        lambda x: np.zeros(len(x)),
        _front,
        peers=((Mlp((2, 12, 12, 1), "tanh"), "LM"), (SMALLER, "LM"), (SMALLER, "LBFGS")),
        weight=0.1,
        low=(-1.0, 0.0),
        sides=3,
    ),
    Equation(
        "u_xx + u_yy + u³ = f",
        lambda u, d, dd: dd[0] + dd[1] + u**3,
        lambda x: -2 * np.pi**2 * _waves(x) + _waves(x) ** 3,
        _waves,
    ),
)


@dataclass(frozen=True)
class Result:
    error: float
    seconds: float  # of CPU
    parameters: int


def points(equation: Equation, inside: int, edge: int, seed: int) -> tuple[Array, Array]:
    """Random points inside and on the boundary."""
    generator = np.random.default_rng(seed)
    interior, border = (generator.uniform(equation.low, 1.0, (count, 2)) for count in (inside, edge))
    side = np.arange(edge) % equation.sides
    for n, (axis, value) in enumerate(((0, equation.low[0]), (0, 1.0), (1, equation.low[1]), (1, 1.0))):
        border[side == n, axis] = value
    return interior, border


def error(equation: Equation, run: Callable[[Array], Array]) -> float:
    test = points(equation, 10_000, 0, seed=1)[0]
    return float(np.mean((run(test) - equation.solution(test)) ** 2))


def kan(equation: Equation, seed: int) -> Result:
    interior, border = points(equation, equation.inside, equation.edge, seed=0)
    source, known = equation.source(interior), equation.solution(border)

    def inside(x: Array, u: Any) -> Any:
        return equation.operator(u, [u.d(0), u.d(1)], [u.dd(0, 0), u.dd(1, 1)]) - source

    begun = time.process_time()
    residuals = [Residual(inside, interior, equation.weight), Residual(lambda x, u: u - known, border)]
    found: Kan = solve(equation.shape, residuals, grid=equation.grids, seed=seed)
    seconds = time.process_time() - begun
    size = sum(parameter.size for parameter in free_parameters(found))
    return Result(error(equation, lambda x: evaluate(found, x)[:, 0]), seconds, size)


def perceptron(equation: Equation, mlp: Mlp, trainer: str, seconds: float, seed: int) -> Result:
    interior, border = points(equation, equation.inside, equation.edge, seed=0)
    inner = torch.from_numpy(np.column_stack([interior, equation.source(interior)]))
    outer = torch.from_numpy(np.column_stack([border, equation.solution(border)]))

    def inside(vector: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        u, d, dd = mlp.jet(vector, rows[..., :2], 2)
        left = equation.operator(u[..., 0], [slope[..., 0] for slope in d], [bend[..., 0] for bend in dd])
        return torch.as_tensor(left - rows[..., 2])

    def edge(vector: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return mlp.jet(vector, rows[..., :2], 0)[0][..., 0] - rows[..., 2]

    terms = ((inside, inner, (equation.weight / len(inner)) ** 0.5), (edge, outer, (1 / len(outer)) ** 0.5))
    train = by_levenberg if trainer == "LM" else by_lbfgs
    vector, taken = train(mlp.start(seed), Squares(mlp.size, terms), seconds)
    run = lambda x: mlp.jet(vector, torch.from_numpy(x), 0)[0][:, 0].numpy()  # noqa: E731
    return Result(error(equation, run), taken, mlp.size)


Table = dict[str, list[Result]]


def compare(equation: Equation, seeds: Sequence[int]) -> Table:
    """Our network, then each peer with the same CPU time."""
    results: Table = {}
    for seed in seeds:
        own = kan(equation, seed)
        results.setdefault(equation.ours, []).append(own)
        for mlp, trainer in equation.peers:
            results.setdefault(f"{mlp} by {trainer}", []).append(perceptron(equation, mlp, trainer, own.seconds, seed))
    return results


def equations(small: bool = False) -> tuple[Equation, ...]:
    if not small:
        return POISSON, *NONLINEAR
    few = ((Mlp((2, 6, 6, 1), "tanh"), "LM"), (Mlp((2, 6, 6, 1), "silu"), "LBFGS"))
    options: dict[str, Any] = {"shape": (2, 3, 1), "grids": (5, 10), "peers": few, "inside": 400, "edge": 100}
    return tuple(replace(equation, **options) for equation in (POISSON, *NONLINEAR))


def report(name: str, rows: Table) -> str:
    body = [
        [
            who,
            str(runs[0].parameters),
            f"{np.median([run.seconds for run in runs]):.1f}",
            f"{np.median([run.error for run in runs]):.1e}",
            f"{max(run.error for run in runs):.1e}",
        ]
        for who, runs in rows.items()
    ]
    lines = ["", f"{name}, seeds: {len(next(iter(rows.values())))}"]
    lines += [table(["", "parameters", "CPU s", "median", "worst"], body), "", *_judged(rows)]
    return "\n".join(lines)


def _judged(rows: Table) -> list[str]:
    """Win or loss against the best peer; and, with the paper's perceptron, whether the goals are met."""
    runs = next(runs for who, runs in rows.items() if who.startswith("KAN"))
    peers = {who: float(np.median([run.error for run in runs])) for who, runs in rows.items() if who.startswith("MLP")}
    best = min(peers, key=lambda who: peers[who])
    ratio = peers[best] / float(np.median([run.error for run in runs]))
    verdict = f"win: {ratio:.2g}x less" if ratio >= 1 else f"LOSS: {1 / ratio:.2g}x more"
    lines = [f"{verdict} error than the best peer, {best}"]
    paper = peers.get(f"{PAPER} by LBFGS")
    if paper is not None:
        worst, size, seconds = (max(getattr(run, what) for run in runs) for what in ("error", "parameters", "seconds"))
        what = f"error ≤ 1e-7 with ≤ 690 parameters in ≤ 15 s for every seed: {worst:.1e}, {size}, {seconds:.1f} s"
        lines.append(goal(worst <= 1e-7 and size <= 690 and seconds <= 15, what))
        lines.append(goal(paper >= 10 * worst, f"the paper's perceptron ≥ 10x worse in the same seconds: {paper:.1e}"))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Differential equations beside perceptrons.")
    parser.add_argument("--small", action="store_true", help="only show that it works")
    options = parser.parse_args(arguments)
    print(f"Differential equations, float64, one thread: mean squared error of u\n{machine('numpy', 'torch')}")
    warm_up()
    for equation in equations(options.small):
        print(report(equation.name, compare(equation, [100] if options.small else range(100, 105))), flush=True)


if __name__ == "__main__":
    main()
