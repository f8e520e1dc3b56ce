"""The rules that `ablate.py` switches off, each with the cases that may depend on it and how it is switched off.

A switch replaces a constant or a function of a module by what a function makes of it, so production code has no
switches. A new rule gets a line here, and its figure before it is kept.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

Switch = tuple[str, Callable[[Any], Any]]
"""The place, module:name below kanserve, and what to put there, made of what is there."""


@dataclass(frozen=True)
class Rule:
    """A stage or rule, the kinds of cases that may depend on it, and its switches."""

    name: str
    kinds: str
    switches: tuple[Switch, ...]

    @contextmanager
    def off(self) -> Iterator[None]:
        """The rule does not act inside."""
        with ExitStack() as stack:
            for place, make in self.switches:
                module, name = place.split(":")
                owner = importlib.import_module(f"kanserve.{module}")
                stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))
            yield


def _to(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _giving(value: Any) -> Callable[[Any], Any]:
    """A function that always gives this."""
    return lambda _: lambda *arguments, **options: value


def _first_argument(_: Any) -> Any:
    return lambda first, *others, **options: first


def _rule(name: str, kinds: str, *switches: Switch) -> Rule:
    return Rule(name, kinds, switches)


def _without_stage(name: str) -> Switch:
    return "train.fitting:STAGES", lambda stages: tuple(stage for stage in stages if stage.__name__ != name)


def _settings(**changes: Any) -> Switch:
    return "train.stages:Settings", lambda settings: lambda **given: settings(**{**given, **changes})


LADDER, RUN = "train.lm.schedule", "train.lm.schedule_run"
ARGUMENTS, DESCENT, SCREEN = "train.fit_arguments", "train.torch.gradient_fit", "train.lm.telling_inputs"
PRUNE, NAME, JUDGE = "simplification.pruning", "simplification.symbolification", "simplification.validation"
OFFERS, EDGES = "simplification.replacements", "simplification.edge_candidates"
SHAPES, SEARCH = "simplification.architectures", "simplification.architecture_search"

TRAINING = (
    _rule("8 random starts", "lm deep", (f"{ARGUMENTS}:FITTING_STARTS", _to(1))),
    _rule("24 starts of classifiers", "classes", (f"{ARGUMENTS}:FITTING_CLASS_STARTS", _to(8))),
    _rule("several finalists", "lm", (f"{LADDER}:_finalists", _giving(1))),
    _rule("short runs of wide networks", "wide lm", (f"{LADDER}:_is_wide", _giving(False))),
    _rule("smoothing chosen", "noise deep", (f"{LADDER}:STRENGTHS", _to((0.0,)))),
    _rule("smoothing of classes chosen", "classes", (f"{LADDER}:CLASS_STRENGTHS", _to((1e-3,)))),
    _rule("no strength 0 for noise", "lm", (f"{LADDER}:_weakest", _giving(0))),
    _rule(
        "the smoother of equals",
        "lm classes deep",
        (f"{LADDER}:smoothest", lambda _: lambda runs: min(runs, key=lambda run: run.error)),
    ),
    _rule(
        "smoothing chosen on each grid",
        "lm classes",
        (
            f"{LADDER}:_on_finer",
            lambda _: lambda kan, smooth, now: now.fit_rows(kan, _enough(now, kan), smooth, 60),
        ),
    ),
    _rule(
        "few steps on an unsure grid",
        "lm classes",
        (f"{LADDER}:_try", lambda _: lambda kan, best, unsure, now: _module(LADDER)._on_finer(kan, best.smooth, now)),
    ),
    _rule("two grids may gain nothing", "lm classes", _settings(look_ahead=0)),
    _rule("grids of 20 to 100", "lm", (f"{LADDER}:_finer", _giving([]))),
    _rule("finer grids only for structure in bins", "lm", (f"{LADDER}:BINS_SHARE", _to(-math.inf))),
    _rule("no finer grids for good fits", "lm", (f"{LADDER}:is_good", _giving(False))),
    _rule("knots at jumps", "lm", (f"{LADDER}:_with_jumps", lambda _: lambda best, now: (best, 0))),
    _rule("deep finalists compared on finer grids", "deep", (f"{LADDER}:_compare", _first_argument)),
    _rule("further starts while the error is slow", "deep", (f"{LADDER}:TRIES", _to(1))),
    _rule("hidden ranges by extreme rows", "deep", (f"{LADDER}:_with_extremes", lambda _: lambda one, x, plan: x)),
    _rule("hidden ranges set at last", "deep", (f"{LADDER}:set_ranges", _first_argument)),
    _rule(
        "penalty on jumps of derivatives",
        "deep",
        (f"{RUN}:EXACT_JUMPS", _to(0.0)),
    ),
    _rule("another finalist where one is stuck", "deep", (f"{LADDER}:_stuck", _giving(False))),
    _rule("stuck only above rounding", "deep", (f"{LADDER}:CONVERGED", _to(0.0))),
    _rule(
        "a sample of many rows for choices", "many", (f"{LADDER}:enough_rows", lambda _: lambda rows, kan, plan: rows)
    ),
    _rule("uneven first knots", "lm", ("train.grids:is_crowded", _giving(False))),
    _rule("10 intervals of narrow classifiers", "classes", ("train.stages:_on_narrow_class_grid", _giving(None))),
    _rule(
        "repeated rows held out together",
        "repeats",
        (f"{ARGUMENTS}:_with_repeats", lambda _: lambda data, n, seed: _module(ARGUMENTS).some(len(data), n, seed)),
    ),
    _rule("smoothing of few rows", "few", (f"{ARGUMENTS}:FITTING_FEW_ROWS_SMOOTH", _to(0.0))),
    _rule("Levenberg-Marquardt for narrow classifiers", "classes", (f"{ARGUMENTS}:FITTING_CLASSES_PARAMETERS", _to(0))),
    _rule("no output worse than a constant", "lm classes descent", _without_stage("guarded")),
    _rule(
        "Huber's threshold by the residuals",
        "robust",
        (f"{LADDER}:_sharper", lambda _: lambda kan, plan: plan.settings),
    ),
    _rule("least damping of a step", "lm", ("train.lm.levenberg_marquardt:FLOOR", _to(1e-8))),
    _rule("end after four small gains", "lm", ("train.lm.levenberg_marquardt:SMALL_GAIN", _to(0.0))),
    _rule("inputs screened", "screen", _without_stage("screened")),
    _rule("products of two inputs", "screen", (f"{SCREEN}:rate_pairs", lambda _: lambda x, r: np.zeros(x.shape[1]))),
    _rule("all inputs if they predict better", "screen", (f"{SCREEN}:all_predict_better", _giving(False))),
    _rule("answers limited for screening", "screen", ("train.input_screening:REACH", _to(1e9))),
    _rule("pilots choose the numbers of categories", "table", ("train.table_fit:ROUNDS", _to(0))),
    _rule("a second pilot", "table", ("train.table_fit:ROUNDS", _to(1))),
    _rule("penalty on leaving a number", "table", ("train.encoding_search:PRIOR", _to(0.0))),
    _rule(
        "means of categories shrunk",
        "table",
        ("train.target_means:LEAST_PRIOR", _to(0.0)),
        ("train.target_means:MOST_PRIOR", _to(0.0)),
    ),
    _rule("at most 50 rows of prior", "table", ("train.target_means:MOST_PRIOR", _to(math.inf))),
    _rule("4 starts of a narrow descent", "descent", (f"{ARGUMENTS}:FITTING_DESCENT_STARTS", _to(1))),
    _rule("hidden grids follow the data", "descent", (f"{DESCENT}:GRID_UPDATES", _to(()))),
    _rule("grid updates only where needed", "descent", (f"{DESCENT}:_has_left", _giving(True))),
    _rule("weight decay of Adam", "adam", (f"{DESCENT}:DECAY", _to(0.0))),
    _rule("ridge of cross-entropy", "classes-descent", (f"{DESCENT}:RIDGE", _to({}))),
    _rule("smoothing of classes", "classes-descent", (f"{ARGUMENTS}:FITTING_CLASSES_SMOOTH", _to(0.0))),
    _rule("a finer grid by two standard errors", "descent", (f"{DESCENT}:CERTAIN", _to(0.0))),
    _rule("knots at jumps, by gradients", "descent", (f"{DESCENT}:with_jumps", _giving(None))),
    _rule("last steps of LBFGS on all rows", "descent", ("train.optimizers:SETTLED_ROWS", _to(0))),
    _rule("hidden grids of half width", "descent", ("train.optimizers:HIDDEN", _to(1.0))),
    _rule("small gains count as none", "descent", (f"{DESCENT}:SMALL_GAIN", _to(0.0))),
    _rule("steps that fail are tried again", "adam", (f"{DESCENT}:MOST_FAILURES", _to(0))),
    _rule("second condition of Wolfe", "lbfgs", ("train.torch.optimizers:CURVATURE", _to(math.inf))),
)

SIMPLIFICATION = (
    _rule("search on a coarse grid", "prune", (f"{PRUNE}:_near", _giving(False))),
    _rule("tolerance from the data", "prune", (f"{PRUNE}:_allowance", _giving(0.01))),
    _rule("leave-one-out for noise", "prune discover", (f"{PRUNE}:_judging_best", lambda _: lambda kan, one: one)),
    _rule("leave-one-out for noise alone", "prune discover", (f"{PRUNE}:NOISY_ERROR", _to(0.0))),
    _rule("rows per parameter for leave-one-out", "prune", (f"{PRUNE}:ROWS_PER_PARAMETER", _to(0.5))),
    _rule("nodes before edges", "prune discover", ("simplification.removal_order:nodes", _giving([]))),
    _rule("six removals tried", "prune", (f"{PRUNE}:PATIENCE", _to(1))),
    _rule("hopeless removals given up", "prune", (f"{PRUNE}:HOPELESS_ERROR_RATIO", _to(math.inf))),
    _rule("a finer grid for a rejected removal", "prune", (f"{PRUNE}:NEAR_ERROR_RATIO", _to(0.0))),
    _rule("held if the error still falls", "prune discover", (f"{PRUNE}:GRID_REFINEMENT_EXPLAINED_ERROR", _to(0.0))),
    _rule("nodes merged", "prune", (f"{PRUNE}:propose_merges", _giving(()))),
    _rule("worse by one standard error", "prune name", (f"{JUDGE}:no_worse", _giving(False))),
    _rule("worse by a fifth at most", "prune name", (f"{JUDGE}:LARGEST_LOSS_INCREASE", _to(math.inf))),
    _rule("smoothing of simplification", "prune name discover", (f"{JUDGE}:SMOOTHNESS", _to((0.0, 0.0)))),
    _rule("no more smoothing once twice as bad", "prune name", (f"{JUDGE}:SMOOTHING_LOSS_RATIO", _to(math.inf))),
    _rule("grids follow the signals", "prune name", (f"{JUDGE}:_follow_signals", _first_argument)),
    _rule("no move of grids that costs", "prune name", (f"{JUDGE}:REGRID_ERROR_RATIO", _to(math.inf))),
    _rule("splines straightened", "name", (f"{NAME}:straighten", _first_argument)),
    _rule("two edges at a time", "name", (f"{NAME}:OFFERS", _to((5,)))),
    _rule("functions of functions", "name", (f"{NAME}:_as_good", _giving(True))),
    _rule("functions of functions only if needed", "name", (f"{NAME}:_as_good", _giving(False))),
    _rule("three deep edges", "name", (f"{NAME}:DEEP_EDGES", _to(1))),
    _rule("two deep offers", "name", (f"{NAME}:DEEP_OFFERS", _to(1))),
    _rule("names together", "name many-edges", (f"{NAME}:_together", _giving([]))),
    _rule("quarter at once of many edges", "name many-edges", (f"{NAME}:MANY_EDGES", _to(10**9))),
    _rule("edges named one by one", "name", (f"{NAME}:_name_some", lambda _: lambda search, state: state)),
    _rule("only near functions one by one", "name", (f"{NAME}:NEAR_ERROR_RATIO", _to(math.inf))),
    _rule("composites", "name", (f"{OFFERS}:composites", _giving([]))),
    _rule("powers of factors", "name", (f"{OFFERS}:_powers", _giving(()))),
    _rule("hopeless functions dropped", "name", (f"{EDGES}:HOPELESS_LOSS_RATIO", _to(math.inf))),
    _rule("poor functions refined no further", "name", (f"{EDGES}:REFINEMENT_LOSS_RATIO", _to(math.inf))),
    _rule("price of an offset", "name", (f"{EDGES}:EDGE_CANDIDATES_OFFSET_COMPLEXITY", _to(0.0))),
    _rule("refits after each name", "name", (f"{NAME}:REFIT_STEPS", _to(2))),
    _rule("early end of the search for a shape", "discover", (f"{SEARCH}:PATIENCE", _to(99))),
    _rule("starts by the work", "discover", (f"{SHAPES}:START_WORK", _to(math.inf))),
    _rule("negligible error", "discover", (f"{SHAPES}:GRID_REFINEMENT_NEGLIGIBLE_ERROR", _to(0.0))),
    _rule("shapes of more parameters than rows", "discover", (f"{SHAPES}:ROWS_PER_PARAMETER", _to(1))),
)

RULES = {"training": TRAINING, "simplification": SIMPLIFICATION}


def _module(place: str) -> Any:
    return importlib.import_module(f"kanserve.{place}")


def _enough(now: Any, kan: Any) -> Any:
    return _module(RUN).enough_rows(now.plan.train, kan, now.plan)
