"""Other symbolic regression packages, as good as a user can get them in a given number of CPU seconds."""

import ast
import importlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._pykan import elsewhere
from kanserve.data.dataset import Dataset

Array = NDArray[np.float64]

SYMBOLS = "add,sub,mul,div,exp,log,sqrt,square,sin,cos,tanh,asin,constant,variable"
POPULATION = 500
LARGEST_EXPONENT = 100.0  # gplearn's exp is clipped here, so that it stays finite
# How gplearn's functions are written elsewhere. Its sqrt and log are those of the absolute value.
NOTATION = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "({} * {})",
    "div": "({} / {})",
    "inv": "(1 / {})",
    "sqrt": "sqrt(abs({}))",
    "log": "log(abs({}))",
}


@dataclass(frozen=True, eq=False)
class Found:
    """A peer's result: a function from rows (N, inputs) to (N,), its text, and the CPU seconds."""

    run: Callable[[Array], Array]
    text: str
    seconds: float


def pyoperon(data: Dataset, seconds: float, seed: int) -> Found:
    """Genetic programming with Levenberg-Marquardt for the constants, in float32.

    Its limit is in whole wall-clock seconds: it is rounded up, and the run is repeated with a larger one if the machine
    was too busy to give it its CPU seconds. The seconds are those of the last run.
    """
    module: Any = importlib.import_module("pyoperon.sklearn")
    limit, spent = math.ceil(seconds), 0.0
    while True:
        model = module.SymbolicRegressor(
            allowed_symbols=SYMBOLS,
            population_size=POPULATION,
            optimizer_iterations=5,
            max_length=25,
            generations=10**9,
            max_evaluations=10**12,
            epsilon=0.0,
            max_time=limit,
            random_state=seed,
        )
        begun = time.process_time()
        model.fit(data.x, data.y[:, 0])
        spent = time.process_time() - begun
        if spent >= 0.9 * seconds:
            return Found(model.predict, model.get_model_string(model.model_, 6, list(data.inputs)), spent)
        limit = math.ceil(limit * min(seconds / spent, 4.0)) + 1


def gplearn(data: Dataset, seconds: float, seed: int) -> Found:
    """Genetic programming in float64 with random constants, generation by generation until the time is up."""
    genetic: Any = importlib.import_module("gplearn.genetic")
    functions: Any = importlib.import_module("gplearn.functions")
    exp = functions.make_function(function=_bounded_exp, name="exp", arity=1)
    model = genetic.SymbolicRegressor(
        population_size=POPULATION,
        generations=1,
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "inv", "sin", "cos", exp),
        const_range=(-5.0, 5.0),
        parsimony_coefficient=1e-4,
        stopping_criteria=0.0,
        metric="rmse",
        warm_start=True,
        feature_names=list(data.inputs),
        random_state=seed,
    )
    begun, generations = time.process_time(), 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        while not generations or time.process_time() - begun < seconds:
            generations += 1
            model.set_params(generations=generations)
            model.fit(data.x, data.y[:, 0])
    spent = time.process_time() - begun
    return Found(model.predict, infix(ast.parse(str(model._program), mode="eval").body), spent)


def pykan(data: Dataset, seed: int) -> Found:
    """pykan's usual procedure without a time limit: fit with sparsity, prune, fit, name functions, fit constants."""
    kan: Any = importlib.import_module("kan")
    rows, answers = torch.from_numpy(data.x), torch.from_numpy(data.y)
    shares = {"train_input": rows, "train_label": answers, "test_input": rows, "test_label": answers}
    begun = time.process_time()
    with elsewhere():
        model = kan.KAN(width=[data.x.shape[1], 5, 1], grid=5, k=3, seed=seed)
        model.fit(shares, opt="LBFGS", steps=50, lamb=0.002)
        model = model.prune()
        model.fit(shares, opt="LBFGS", steps=50)
        model.auto_symbolic()
        model.fit(shares, opt="LBFGS", steps=50)
        text = str(model.symbolic_formula(var=list(data.inputs))[0][0])

    def run(x: Array) -> Array:
        with torch.no_grad():
            values: Array = model(torch.from_numpy(x)).numpy()[:, 0]
        return values

    return Found(run, text, time.process_time() - begun)


def _bounded_exp(x: Array) -> Array:
    return np.asarray(np.exp(np.clip(x, -LARGEST_EXPONENT, LARGEST_EXPONENT)))


def infix(node: ast.expr) -> str:
    """A program of gplearn with operators: "(x * (y + 1))" for mul(x, add(y, 1))."""
    if not isinstance(node, ast.Call):
        return ast.unparse(node)
    name = ast.unparse(node.func)
    return NOTATION.get(name, name + "({})").format(*map(infix, node.args))
