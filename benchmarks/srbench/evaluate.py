"""kanserve as a method of SRBench, run by that benchmark's own scripts on twelve problems that can be generated here.

    git clone https://github.com/cavalab/srbench ../srbench
    OMP_NUM_THREADS=1 python -m benchmarks.srbench.evaluate ../srbench [--seconds 60] [--seed 42]

The folders `algorithms` and `experiment` beside this file are laid out as in a checkout of SRBench: copying both there
makes the pull request. This copies the method into a temporary copy of the checkout, where `evaluate_model.py` runs it
and `assess_symbolic_model.py` compares what it finds with the law.

The problems are every seventh law of `kanserve.data.load_equations("feynman")`, with 1,000 uniform rows, and every
second state of the systems of Strogatz's book, with 400 rows of four trajectories, as SRBench has them. SRBench's own
rows of these laws come from a download; so do its problems without a law.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks import _equations, _timing
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import Equation, load_equations

Array = NDArray[np.float64]

HERE = Path(__file__).parent
METHOD = "kanserve"
FEYNMAN_EVERY, STROGATZ_EVERY = 7, 2  # five laws of the thirty, and the first state of each of the seven systems
_SYSTEMS = ("bacres", "barmag", "glider", "lv", "predprey", "shear", "vdp")
STATES = tuple(f"{system}{state}" for system in _SYSTEMS for state in (1, 2))
ROWS = 1000  # of a law of the lectures. SRBench allows ten hours with more training rows, of which these are 750
TRAJECTORIES, POINTS, TIME = 4, 100, 10.0  # of a system, as SRBench has them
LONGEST = 600.0  # seconds beyond the limit, which its own script allows, after which a run counts as failed


@dataclass(frozen=True, eq=False)
class Problem:
    """A data set with the law that made it, as SRBench writes both."""

    name: str
    law: str
    data: Dataset


@dataclass(frozen=True)
class Result:
    """What SRBench's scripts wrote about a problem."""

    name: str
    solved: bool
    r2: float
    size: int
    seconds: float
    model: str


def problems() -> list[Problem]:
    """The twelve problems, always the same."""
    feynman = [_feynman(equation) for equation in load_equations("feynman")[::FEYNMAN_EVERY]]
    states = {equation.name: equation for equation in load_equations("field_suites") if equation.name in STATES}
    return feynman + [_strogatz(states[name], states) for name in STATES[::STROGATZ_EVERY]]


def _feynman(equation: Equation) -> Problem:
    rows = _equations.rows(_equations.law_of(equation), _equations.Setting("feynman", rows=ROWS), seed=0)
    return Problem(f"feynman_{equation.name.replace('.', '_')}", equation.formula, rows)


def _strogatz(equation: Equation, states: Mapping[str, Equation]) -> Problem:
    """The rows of four trajectories of the system, from starts within the ranges of its states."""
    system = equation.name[:-1]
    laws = [_equations.law_of(states[f"{system}{state}"]) for state in (1, 2)]
    generator = np.random.default_rng(zlib.crc32(system.encode()))
    low, high = laws[0].ranges.T
    runs: list[Array] = []
    while len(runs) < TRAJECTORIES:
        path = _trajectory([law.__call__ for law in laws], generator.uniform(low, high))
        if path is not None:
            runs.append(path)
    x = np.concatenate(runs)
    law = _equations.law_of(equation)
    return Problem(f"strogatz_{equation.name}", equation.formula, Dataset(x, law(x), law.inputs))


def _trajectory(laws: Sequence[Callable[[Array], Array]], start: Array) -> Array | None:
    """The states (POINTS, 2) at even times; None where the system leaves its laws' domain."""

    def slope(_: float, state: Array) -> Array:
        return np.array([law(state[None, :])[0] for law in laws])

    times = np.linspace(0, TIME, POINTS)
    solved = solve_ivp(slope, (0, TIME), start, t_eval=times, method="LSODA", rtol=1e-8, atol=1e-10)
    path: Array = solved.y.T
    return path if solved.success and len(path) == POINTS and np.isfinite(path).all() else None


def write(problem: Problem, folder: Path) -> Path:
    """The problem as SRBench reads it: a compressed table, and the law in a description beside it."""
    import pandas as pd

    there = folder / problem.name
    there.mkdir(parents=True)
    table = pd.DataFrame(problem.data.x, columns=list(problem.data.inputs))
    table["target"] = problem.data.y[:, 0]
    file = there / f"{problem.name}.tsv.gz"
    table.to_csv(file, sep="\t", index=False)
    law = problem.law.replace("^", "**")
    (there / "metadata.yaml").write_text(f"dataset: {problem.name}\ndescription: |\n  target = {law}\n", "utf-8")
    return file


def measure(checkout: Path, seconds: int, seed: int, chosen: Sequence[Problem]) -> Iterator[Result]:
    """Run SRBench's scripts on each problem, in a copy of its folder `experiment` with our method in it."""
    with tempfile.TemporaryDirectory(prefix="srbench-") as folder:
        experiment = Path(folder, "experiment")
        shutil.copytree(checkout / "experiment", experiment)
        shutil.copytree(HERE / "experiment" / "methods" / METHOD, experiment / "methods" / METHOD, dirs_exist_ok=True)
        for problem in chosen:
            file = write(problem, Path(folder, "problems"))
            yield _result(problem, experiment, file, seconds, seed)


def _result(problem: Problem, experiment: Path, file: Path, seconds: int, seed: int) -> Result:
    common = [str(file), "-ml", METHOD, "-seed", str(seed), "-results_path", "results"]
    time_limit = ["-fit_time_limit", str(seconds), "-n_jobs", "1"]
    written = experiment / "results" / f"{problem.name}_{METHOD}_{seed}.json"
    try:
        _script(experiment, "evaluate_model.py", [*common, *time_limit], seconds + LONGEST)
        _script(experiment, "assess_symbolic_model.py", common, LONGEST)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error, (error.stderr or "")[-2000:], file=sys.stderr)
    return read(problem.name, written)


def _script(experiment: Path, name: str, arguments: Sequence[str], seconds: float) -> None:
    command = [sys.executable, name, *arguments]
    subprocess.run(command, cwd=experiment, check=True, capture_output=True, text=True, timeout=seconds)


def read(name: str, written: Path) -> Result:
    """The result of SRBench's file, or of its assessment beside it. A law counts as found as SRBench counts it: but
    for a constant, added or a factor, and for digits behind the third."""
    if not written.exists():
        return Result(name, False, float("nan"), 0, float("nan"), "none")
    assessed = written.with_name(f"{written.name}.updated")
    value: dict[str, Any] = json.loads((assessed if assessed.exists() else written).read_bytes())
    tests = ("symbolic_error_is_zero", "symbolic_error_is_constant", "symbolic_fraction_is_constant")
    solved = any(value.get(test) in (True, "True") for test in tests)
    size = value.get("simplified_complexity", value["model_size"])
    return Result(name, solved, value["r2_test"], size, value["time_time"], value["symbolic_model"])


def report(results: Sequence[Result]) -> str:
    lines = [f"{'problem':20} {'found':6} {'1 - R2':>8} {'size':>5} {'seconds':>8}  model"]
    for result in results:
        error = f"{max(1 - result.r2, 0):.1e}"
        found = "yes" if result.solved else "no"
        lines.append(
            f"{result.name:20} {found:6} {error:>8} {result.size:5} {result.seconds:8.1f}  {result.model[:80]}"
        )
    lines.append(f"{sum(result.solved for result in results)} of {len(results)} laws found")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of SRBench")
    parser.add_argument("--seconds", type=int, default=60, help="the limit of a fit")
    parser.add_argument("--seed", type=int, default=42, help="of the split and the search")
    chosen = parser.parse_args(arguments)
    print("SRBench's own scripts\n" + _timing.machine(), flush=True)
    results = []
    for result in measure(chosen.checkout, chosen.seconds, chosen.seed, problems()):
        print(result, file=sys.stderr, flush=True)
        results.append(result)
    print(report(results))


if __name__ == "__main__":
    main()
