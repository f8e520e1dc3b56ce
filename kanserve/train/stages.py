"""The stages of a fit around the optimizer (`STAGES`, from outside in): each prepares the problem for the next, and
completes the result that comes back."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.network.training_bins import with_training_bins
from kanserve.train.checkpoints import Checkpoint
from kanserve.train.constant_guard import no_worse_than_a_constant
from kanserve.train.creation import random_init
from kanserve.train.encoded_data import is_encoded
from kanserve.train.fit_arguments import (
    FITTING_MANY_ROWS,
    JUDGED_BY,
    choose_method,
    hold_out,
    list_unused_arguments,
    smoothing_strengths,
    start_count,
    training_rows,
)
from kanserve.train.fit_progress import Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.fit_warnings import STARTS_OF_LEFT_OUT, WARNINGS_ROWS, Fitted, warning_texts
from kanserve.train.grids import with_first_knots
from kanserve.train.input_screening import BATCHES_KEPT, narrow, narrow_data, widen
from kanserve.train.lm.levenberg_marquardt import LEVENBERG_MARQUARDT_PATIENCE
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_run import different_answers, is_narrow
from kanserve.train.lm.telling_inputs import SCREENING_ROWS, tell_of_inputs, telling_inputs
from kanserve.train.normalising import normalise as with_scales
from kanserve.train.optimizers import train
from kanserve.train.outer_layers import with_arcsinh_inputs, with_clipped_inputs, with_exponential
from kanserve.train.problem import Outcome, Plan, Problem
from kanserve.train.table_fit import fit_table

# Of 20 or more inputs, those that tell nothing are left out with fewer answers than so many per parameter. 2000 rows of
# Friedman's function and 25 inputs without effect, [30, 5, 1]: R² .953 in 47 CPU seconds with 1, .959 in 7 with 4.
SCREENING_EACH = 4
SCREENING_SAMPLES = 1000  # and four per parameter: of so many, those that differ are counted
# From here on inputs that tell nothing are left out of any regression whose rows are few enough to be copied
# (BATCHES_KEPT): so many rows show it.
SCREENING_MANY_ROWS = 10_000
NARROW_CLASS_GRID = 10  # of a narrow classifier: from 3 intervals most starts end in poor minima
STEPS = {"lm": 100, "lbfgs": 200, "adam": 1000}
PATIENCE = {"lm": LEVENBERG_MARQUARDT_PATIENCE, "lbfgs": 20, "adam": 20}

Inner = Callable[[Problem], Kan]
Stage = Callable[[Problem, Inner], Kan]


def through(stages: Sequence[Stage], problem: Problem, last: Inner) -> Kan:
    """Run the stages nested inside each other: each stage gets a function that runs the remaining ones, and the
    innermost is `last`. Returns the trained network."""
    if not stages:
        return last(problem)
    first, *others = stages
    return first(problem, lambda inner: through(others, inner, last))


def uninterrupted(complete: Callable[[Kan], Kan], kan: Kan) -> Kan:
    """The completed network; after Ctrl-C, as it was, so that what comes after the optimizer loses no trained one."""
    try:
        return complete(kan)
    except KeyboardInterrupt:
        logging.getLogger("kanserve").warning("Interrupted after the training: the network was not judged to the end.")
        return kan


def recorded(problem: Problem, inner: Inner) -> Kan:
    """Record in the network which rows it was fitted to and judged by, and how they are spread over its inputs."""
    seen = [hash_rows(rows) for rows in (problem.data, problem.validation) if isinstance(rows, Dataset)]
    return uninterrupted(lambda kan: with_training_bins(record_rows(kan, *seen), problem.data.x), inner(problem))


def encoded(problem: Problem, inner: Inner) -> Kan:
    """Replace categories and missing values by numbers, which pilot fits choose."""
    if not is_encoded(problem.data):
        return inner(problem)

    def fit_numbers(rows: Dataset, judges: float | Dataset, *, last: bool) -> Kan:
        outcome = problem.outcome if last else Outcome.of(problem.options, resumes=False)
        kan = inner(replace(problem, data=rows.counted(), validation=judges, outcome=outcome))
        if not last:
            outcome.watch.finish()
        return kan

    seed = problem.options.seed
    return fit_table(fit_numbers, problem.data, problem.validation, problem.loss, max(JUDGED_BY.values()), seed)


def log_scaled(problem: Problem, inner: Inner) -> Kan:
    """Transform the inputs with a logarithmic scale, and prepend a layer to the network that does so."""
    if not problem.scales:
        return inner(problem)
    data, judges = problem.data, problem.validation
    if isinstance(judges, Dataset):
        judges = with_log_scales(judges, problem.scales)
    kan = inner(replace(problem, data=with_log_scales(data, problem.scales), validation=judges, raw=data))
    ranges = zip(kan.inputs, data.x.min(axis=0).tolist(), data.x.max(axis=0).tolist(), strict=True)
    inputs = tuple(replace(variable, low=low, high=high) for variable, low, high in ranges)
    return replace(with_arcsinh_inputs(kan, problem.scales), inputs=inputs)


def with_log_scales(data: Dataset, scales: Sequence[float]) -> Dataset:
    """Replace x by arcsinh(x/scale) for each input whose scale is not 0."""
    chosen, x = np.array(scales) > 0, data.x.copy()
    x[:, chosen] = np.arcsinh(x[:, chosen] / np.array(scales)[chosen])
    return replace(data, x=x)


def normalised(problem: Problem, inner: Inner) -> Kan:
    """Set the scales and shifts, so that the layers see normalised values."""
    if isinstance(problem.validation, Dataset):
        problem.validation.check_numbers()
    return inner(replace(problem, kan=with_scales(problem.kan, problem.data, problem.loss)))


def clipped(problem: Problem, inner: Inner) -> Kan:
    """For extrapolation="clip", add two layers that keep each input in the range of the training data."""
    kan = inner(problem)
    return with_clipped_inputs(kan) if problem.options.extrapolation == "clip" else kan


def screened(problem: Problem, inner: Inner) -> Kan:
    """Drop inputs that explain nothing, if rows or parameters are many. They come back with pruned edges."""
    kan, data, options = problem.kan, problem.data, problem.options
    many = len(data) >= SCREENING_MANY_ROWS and data.x.size <= BATCHES_KEPT
    problem = replace(problem, sizing=kan if many else None)
    if (
        not options.screen
        or problem.validation == 0
        or not (many or SCREENING_EACH * parameters(kan) > _answers(kan, data, options.seed))
    ):
        return inner(problem)
    left_out = hold_out(data, problem.validation, max(JUDGED_BY.values()), options.seed)[0]
    rows = training_rows(data, left_out, SCREENING_ROWS, options.seed)
    kept = telling_inputs(kan, rows, problem.loss, options.seed)
    if kept.all():
        return inner(problem)
    tell_of_inputs(kan, kept, problem.outcome.watch)
    judges = problem.validation
    fewer = replace(
        problem,
        kan=narrow(kan, kept),
        data=narrow_data(data, kept),
        raw=None if problem.raw is None else narrow_data(problem.raw, kept),
        validation=narrow_data(judges, kept) if isinstance(judges, Dataset) else judges,
        monotonic=tuple(np.array(problem.monotonic)[kept].tolist()) if problem.monotonic else (),
        screened=True,
    )
    return widen(inner(fewer), kan, kept)


def _answers(kan: Kan, data: Dataset, seed: int) -> int:
    """The number of distinct targets, in a sample large enough for this network (all rows may not fit in memory)."""
    return different_answers(data.sample(SCREENING_SAMPLES + 4 * parameters(kan), seed))


def planned(problem: Problem, inner: Inner) -> Kan:
    """Choose the optimizer, the grids, the smoothing and the validation rows."""
    data, options, loss = problem.data, problem.options, problem.loss
    grids, finer, seed = options.grids, options.finer, options.seed
    kan = with_first_knots(problem.kan, data, grids[0], seed)
    few_rows = len(data) <= FITTING_MANY_ROWS
    sized = random_init(problem.sizing or kan, grids[0], (seed,))
    method = choose_method(options.optimizer, loss.name, options.penalised, few_rows, sized, problem.monotonic)
    out, held = hold_out(data, problem.validation, JUDGED_BY[method], seed)
    few = problem.validation != 0 and held is None
    choosing = method == "lm" and held is not None
    strengths = smoothing_strengths(options.smooth, few, options.noise_free, choosing, loss.name)
    if finer and choosing and (fine := _on_narrow_class_grid(problem, kan)) is not None:
        kan, grids = fine, (NARROW_CLASS_GRID,)
        strengths = strengths[1:] or strengths  # more intervals need more smoothing
    starts = start_count(method, loss.name, options.penalised, kan) if options.starts is None else options.starts
    settings = Settings(
        method=method,
        loss=loss.name,
        shape=loss.shape,
        steps=STEPS[method] if options.steps is None else options.steps,
        patience=PATIENCE[method] if options.patience is None else options.patience,
        seed=seed,
        grids=tuple(grids[:1] if few else grids),
        finer=() if few else finer,
        look_ahead=len(grids) if options.noise_free else 2,
        starts=starts,
        strengths=strengths,
        monotonic=problem.monotonic,
        learning_rate=options.learning_rate,
        batch=options.batch,
        l1=options.l1,
        entropy=options.entropy,
        device=options.device,
    )
    return inner(replace(problem, kan=kan, plan=Plan(settings, out, held, few)))


def _on_narrow_class_grid(problem: Problem, kan: Kan) -> Kan | None:
    """The starting grid for a narrow classifier; None for other networks, or with too few rows."""
    if problem.loss.name != "cross_entropy" or not is_narrow(kan):
        return None
    seed = problem.options.seed
    fine = with_first_knots(kan, problem.data, NARROW_CLASS_GRID, seed)
    enough = parameters(random_init(fine, NARROW_CLASS_GRID, (seed,))) <= _answers(problem.kan, problem.data, seed)
    return fine if enough else None


def log_linked(problem: Problem, inner: Inner) -> Kan:
    """For a loss with a log link, append a layer that takes the exponential."""
    kan = inner(problem)
    return with_exponential(kan) if problem.loss.log_link else kan


def guarded(problem: Problem, inner: Inner) -> Kan:
    """Replace outputs that are worse than a constant."""
    plan = _plan(problem)
    rows = problem.data.sample(JUDGED_BY[plan.settings.method], plan.settings.seed)
    return uninterrupted(lambda kan: no_worse_than_a_constant(kan, rows, problem.loss), inner(problem))


def warned(problem: Problem, inner: Inner) -> Kan:
    """Add a warning if the result is of no use, or if few rows decide it."""
    kan = inner(problem)
    return kan if problem.outcome.judged is None else uninterrupted(lambda kan: _warn(problem, kan), kan)


def _warn(problem: Problem, kan: Kan) -> Kan:
    assert problem.outcome.judged is not None
    plan, options = _plan(problem), problem.options
    once = replace(plan.settings, starts=min(plan.settings.starts, STARTS_OF_LEFT_OUT))

    def refit(rows: Dataset) -> Kan:
        return train(problem.kan, rows, None, None, once, Watch(False, None), Checkpoint())[0]

    seen, raw = (
        training_rows(rows, plan.out, WARNINGS_ROWS, plan.settings.seed)
        for rows in (problem.data, problem.data if problem.raw is None else problem.raw)
    )
    fitted = Fitted(
        problem.outcome.judged,
        seen,
        raw,
        plan.held,
        problem.loss,
        options.extrapolation == "clip",
        plan.few,
        list_unused_arguments(plan.settings.method, options.device, options.learning_rate, options.batch),
        kan,
        None if problem.screened else refit,
    )
    problem.outcome.warnings.extend(warning_texts(fitted))
    return kan


def _plan(problem: Problem) -> Plan:
    assert problem.plan is not None, "the stage `planned` comes first"
    return problem.plan


STAGES: tuple[Stage, ...] = (
    recorded,
    encoded,
    log_scaled,
    normalised,
    clipped,
    screened,
    planned,
    log_linked,
    guarded,
    warned,
)
