"""The names that other libraries use for kanserve's parameters: an error about such a name suggests kanserve's own. No
public function has a parameter named by one of `SYNONYMS`."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "backend": ("engine", "runtime"),
    "batch": ("batch_size", "minibatch"),
    "data": ("dataset", "df", "frame", "samples"),
    "device": ("cuda", "gpu"),
    "folder": ("directory", "out_dir"),
    "formats": ("backends", "exporters", "kinds"),
    "functions": ("lib", "library_functions", "operators", "unary_operators"),
    "grid": ("grids", "intervals", "n_knots"),
    "hidden": ("hidden_layer_sizes", "layers_hidden"),
    "learning_rate": ("learning_rate_init", "lr"),
    "loss": ("criterion", "loss_fn", "objective"),
    "max_complexity": ("maxsize",),
    "max_fits": ("max_evals", "niterations"),
    "model": ("artifact",),
    "monotonic_cst": ("monotone_constraints", "monotonic"),
    "n_jobs": ("jobs", "num_workers", "processes", "procs", "workers"),
    "optimizer": ("opt", "solver"),
    "order": ("degree", "k", "spline_order"),
    "patience": ("n_iter_no_change",),
    "processors": ("architectures", "targets"),
    "progress": ("callback", "report", "show_progress", "verbose", "verbosity"),
    "random_state": ("random_seed", "rng", "seed"),
    "repository": ("registry", "root"),
    "sample_weight": ("weight", "weights"),
    "seconds": ("max_seconds", "time_limit", "timeout_in_seconds"),
    "seed": ("random_seed", "random_state", "rng"),
    "shape": ("kan", "layers", "width", "widths"),
    "smooth": ("lamb", "smoothing"),
    "steps": ("epochs", "iterations", "max_iter", "n_steps"),
    "target": ("label", "labels", "y_column"),
    "threads": ("n_threads", "num_threads"),
    "tolerance": ("threshold", "tol"),
    "validation": ("validation_data", "validation_fraction", "validation_split"),
}
"""For a name that a public parameter has, names that other libraries give the same idea."""


def names_parameters(**elsewhere: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: when a function is called with an unknown parameter, its TypeError names the parameter that was
    probably meant. `elsewhere` maps parameters of other functions to a sentence that says where they belong."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in names and (hint := elsewhere.get(name) or _hint(name, names)):
                    owner = function.__qualname__.removesuffix(".__init__")
                    raise TypeError(f"{owner} has no parameter {name!r}. {hint}")
            return function(*args, **kwargs)

        return call

    return decorate


def _hint(name: str, names: list[str]) -> str:
    """A sentence with the parameter that was probably meant; "" if there is none."""
    same = [own for own in names if name in SYNONYMS.get(own, ())]
    return f"It is called {same[0]!r} here." if same else _nearest(name, names)


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"Do you mean {near[0]!r}?" if near else ""
