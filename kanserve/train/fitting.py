"""fit(shape, data) -> Kan: choose the loss and the optimizer, normalise, train."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.errors import DataError, TrainingError
from kanserve.network.encoding import without_encoding
from kanserve.network.evaluate import evaluate
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.network.parameter_names import names_parameters
from kanserve.train.common.argument_checks import grid_sequence
from kanserve.train.common.checkpoints import Checkpoint, begun_or_begin, fingerprint
from kanserve.train.common.constant_guard import no_worse_than_a_constant
from kanserve.train.common.creation import create
from kanserve.train.common.encoded_data import is_encoded, with_categories
from kanserve.train.common.first_knots import with_first_knots
from kanserve.train.common.fit_progress import FitReport, Watch
from kanserve.train.common.fit_settings import Settings
from kanserve.train.common.fit_warnings import STARTS_OF_LEFT_OUT, WARNINGS_ROWS, Fitted, warn_of
from kanserve.train.common.input_screening import BATCHES_KEPT, narrowed, narrowed_data, widened
from kanserve.train.common.normalising import normalised
from kanserve.train.common.outer_layers import (
    with_clipped_inputs,
    with_exponential,
    without_clipped_inputs,
    without_exponential,
)
from kanserve.train.fit_arguments import (
    FITTING_MANY_ROWS,
    Extrapolation,
    Loss,
    Monotonic,
    Optimizer,
    Places,
    check_arguments,
    check_order,
    chosen_loss,
    chosen_method,
    held_out,
    monotonic_signs,
    output_count,
    samples,
    smoothing_strengths,
    start_count,
    training_rows,
    unused_arguments,
    validation_rows,
)
from kanserve.train.lm import schedule
from kanserve.train.lm.fresh_weights import fresh
from kanserve.train.lm.levenberg_marquardt import LEVENBERG_MARQUARDT_PATIENCE
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_run import Schedule, different_answers, is_narrow
from kanserve.train.lm.telling_inputs import SCREENING_ROWS, tell_of_inputs, telling_inputs
from kanserve.train.table_fit import fit_table

SCREENING_SAMPLES = 1000  # and four per parameter: of so many, those that differ are counted
# From here on inputs that tell nothing are left out of any regression whose rows are few enough to be copied
# (BATCHES_KEPT): so many rows show it.
SCREENING_MANY_ROWS = 10_000
HIDDEN = 0.5  # half-width of hidden grids: about the range of random splines' sums; if wider, splines stay straight
SETTLED_ROWS = 20_000  # last steps of LBFGS and Adam, held-out rows included: up to so many rows
SETTLE_STEPS = 20  # of the last descent
MOST_ROWS = 200_000  # of a least-squares fit, whose few parameters gain nothing from more

GRIDS, FINER = (3, 5, 10), (20, 50, 100)  # of grid="auto": always, and where the residuals ask for them
NARROW_CLASS_GRID = 10  # of a narrow classifier: from 3 intervals most starts end in poor minima
STEPS = {"lm": 100, "lbfgs": 200, "adam": 1000}
PATIENCE = {"lm": LEVENBERG_MARQUARDT_PATIENCE, "lbfgs": 20, "adam": 20}
JUDGED_BY = {"lm": 5_000, "lbfgs": 20_000, "adam": 20_000}  # held-out rows at most


@names_parameters(
    hidden="It is part of the shape: [inputs, hidden nodes, outputs].",
    weights="Weights belong to the data: kanserve.Dataset(x, y, weights=...).",
    sample_weight="Weights belong to the data: kanserve.Dataset(x, y, weights=...).",
    X="Give it by position: fit(shape, X, y).",
    x="Give it by position: fit(shape, x, y).",
    order="Give a network in place of the shape: fit(kanserve.create([2, 1], order=4), data).",
    symbolic="Call kanserve.simplify(kan, data) after the fit, or kanserve.find_formulas(data).",
)
def fit(
    shape: Kan | Sequence[int | tuple[int, int]],
    data: TrainingData | ArrayLike,
    y: object = None,
    *,
    target: Target = None,
    loss: Loss = "auto",
    quantile: float = 0.5,
    power: float = 1.5,
    extrapolation: Extrapolation = "linear",
    monotonic_cst: Monotonic = None,
    optimizer: Optimizer = "auto",
    grid: int | Sequence[int] | Literal["auto"] = "auto",
    starts: int | None = None,
    steps: int | None = None,
    smooth: float | Literal["auto"] = "auto",
    noise_free: bool = False,
    screen: bool = True,
    l1: float = 0.0,
    entropy: float = 0.0,
    validation: float | TrainingData = 0.2,
    learning_rate: float | None = None,
    patience: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    progress: bool | FitReport = False,
    device: str = "cpu",
    checkpoint: str | os.PathLike[str] | None = None,
) -> Kan:
    """Train a network of this structure on data, from scratch; `refine` goes on from a trained network.

    `shape` is [2, 5, 1], or a network whose structure is used: pruned edges stay pruned, named edges stay named,
    weights are drawn anew. `data` is a Dataset, (x, y), or a DataFrame with `target`, in raw features and units, whose
    rows count by their weights; fit(shape, x, y) is fit(shape, (x, y)). The result takes and returns raw values too,
    and carries names, training ranges and classes. Equal arguments give equal networks, bit for bit on one kind of
    processor.

    `grid` is the number of intervals of the finest splines, reached through coarser ones (10 after 3 and 5), or the
    list of all grids from coarse to fine. "auto" is (3, 5, 10), and goes on to 20, 50 and 100 where a poor fit leaves
    structure on the held-out rows that 10 intervals are too coarse for. Where the answers jump along an input, "auto"
    puts knots close together, if the held-out rows gain by it.

    A regression is fitted by Levenberg-Marquardt, without torch: `starts` random starts on the first grid, then finer
    grids until three in a row have not lowered the error on held-out rows (`validation`: a share, or other rows; with
    `noise_free` all grids are tried), at last `steps` on all rows of `data`. The smoothness of the splines is chosen on
    the held-out rows too, unless `smooth` is a number or the data are `noise_free`. With more than 5000 rows and 50 per
    parameter, a random part of the rows makes the choices and the last steps take all.

    A classifier of up to 400 parameters is fitted in the same way. A larger one, or a regression of more than 1500
    parameters, is trained by LBFGS, and by Adam from 50,000 rows on. `l1` and `entropy` take Adam, since LBFGS gets
    stuck at the kinks of |φ|. Both also refine the grid as long as the held-out loss falls, share their `steps` among
    the grids, and take a few last steps on all rows if there are up to 20,000. `learning_rate`, `batch` and `device`
    are for them. They smooth the first layer only; smooth="auto" smooths that of a classifier by 0.005.

    The losses "poisson" and "tweedie" have a log link, as in scikit-learn: the network's last layer is an exponential,
    and its outputs are on the scale of y. "huber" bounds the pull of outliers, "quantile" predicts a quantile.
    extrapolation="clip" adds two layers that keep each input in the range of the training data; "linear" goes on along
    the last slope.

    A `TrainingWarning` says when the result is no better than a constant or than a line, when the rows are too few to
    tell, and when heavy tails let few rows decide the fit; docs/training.md has what to do.

    With `screen`, a regression of 20 or more inputs with 10,000 rows, or more parameters than answers, is fitted on the
    inputs that tell something about the answers alone: the edges of the others are pruned. A callable `progress` and
    the logger "kanserve" (INFO) say which are left out.

    Inputs may be missing (NaN) and categorical: columns of text, or of the types category, Categorical and Enum, of a
    DataFrame. A fit learns a number for each category and one that stands for a missing value or an unknown category,
    which the network then has (`Variable`); the first network that it trains chooses them, and the second is returned.

    With validation=0 nothing is held out: every grid is used, and smooth="auto" means 0 for least squares. An output
    never fits worse than its mean, a classifier never worse than the class frequencies, and a constant answer gives a
    constant output.

    Parameters
    ----------
    shape : Kan or sequence
        The nodes of each layer, such as [2, 5, 1], or a network whose structure is used.
    data : Dataset, tuple of array_like, DataFrame or array_like
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`. With `y`, the inputs alone.
    y : array_like of shape (n_samples,) or (n_samples, n_outputs), optional
        The targets or class labels, where `data` are the inputs alone.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.
    loss : {"auto", "squared", "huber", "quantile", "poisson", "tweedie", "cross_entropy"}
        "auto" takes cross-entropy where the data have classes, else squares.
    quantile : float, default=0.5
        Of loss="quantile"; 0.5 is the median, which minimises the absolute error.
    power : float, default=1.5
        Of loss="tweedie": the variance grows with this power of the mean, above 1 and up to 2 (gamma).
    extrapolation : {"linear", "clip"}
        What is predicted where an input is outside its training range.
    monotonic_cst : mapping of str to int or sequence of int, optional
        For each input, or for those named, 1 where no output may fall with it, and -1 where none may rise.
    optimizer : {"auto", "lm", "lbfgs", "adam"}
        Levenberg-Marquardt, or LBFGS and Adam, which need torch.
    grid : int, sequence of int or "auto"
        Intervals of the finest grid, or of all grids from coarse to fine.
    starts : int, optional
        Random starts, of which the best is continued: by default 8 of Levenberg-Marquardt, 24 of a classifier; of LBFGS
        and Adam 4 for a network with a layer of up to 3 nodes, else 1. A deep network on exact data may get three times
        as many.
    steps : int, optional
        The most steps; for Levenberg-Marquardt, those on all samples at the end.
    smooth : float or "auto"
        The strength of the smoothness penalty on the splines.
    noise_free : bool
        Whether y is exact.
    screen : bool
        Whether inputs that tell nothing may be left out, where there are many rows or more parameters than answers.
    l1, entropy : float
        Penalties on the size of edges, and on the entropy of their sizes.
    validation : float, Dataset, tuple of array_like or DataFrame, default=0.2
        The share of the samples that is held out, or a separate validation set, given as `data` is.
    learning_rate, batch, device
        For LBFGS and Adam.
    patience : int, optional
        Steps without a gain before early stopping.
    seed : int, default=0
        Equal seeds give equal networks.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as a line on the standard error. A callable is
        called with a `Progress`.
    checkpoint : path, optional
        A file from which a killed fit resumes.

    Returns
    -------
    Kan
        The trained network, with names, training ranges and classes.

    Raises
    ------
    DataError
        The data do not fit the shape, a number is infinite, an answer is missing, or an input in all rows.
    TrainingError
        An option cannot be used, or no finite network was found.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kanserve.score(kan, data).r2[0] > 0.999
    True
    """
    check_order(shape, data)
    kan = shape
    if isinstance(kan, Kan):
        kan = without_clipped_inputs(without_exponential(kan) if loss in ("poisson", "tweedie") else kan)
    classes, outputs = (kan.classes, kan.shape[-1]) if isinstance(kan, Kan) else ((), output_count(kan))
    labels = loss == "cross_entropy"
    known = {one.name: one.categories for one in kan.inputs if one.categories} if isinstance(kan, Kan) else {}
    data = dataset(
        samples(data, y), target, classes=classes, outputs=outputs, labels=labels, tables=True, known=known
    ).counted()
    if isinstance(kan, Kan):
        kan, data = without_encoding(kan), with_categories(data, kan)
    finer: tuple[int, ...] = FINER if isinstance(grid, str) and grid == "auto" else ()
    grids: Sequence[int] = GRIDS if finer else grid_sequence(grid)
    if len(data) < 2:
        raise DataError("A fit needs at least 2 rows, got 1.")
    validation = validation_rows(validation, target, data)
    seen = hash_rows(data), *([hash_rows(validation)] if isinstance(validation, Dataset) else [])
    check_arguments(seed, grids, validation, smooth, (loss, optimizer, extrapolation), data)
    of, signs = chosen_loss(loss, quantile, power, data), monotonic_signs(monotonic_cst, data)
    if is_encoded(data):

        def on_numbers(rows: Dataset, judges: float | Dataset, *, last: bool) -> Kan:
            return fit(
                kan,
                rows,
                loss=loss,
                quantile=quantile,
                power=power,
                extrapolation=extrapolation,
                monotonic_cst=monotonic_cst,
                optimizer=optimizer,
                grid=grid,
                starts=starts,
                steps=steps,
                smooth=smooth,
                noise_free=noise_free,
                screen=screen,
                l1=l1,
                entropy=entropy,
                validation=judges,
                learning_rate=learning_rate,
                patience=patience,
                batch=batch,
                seed=seed,
                progress=progress,
                device=device,
                checkpoint=checkpoint if last else None,
            )

        return record_rows(fit_table(on_numbers, data, validation, of, max(JUDGED_BY.values()), seed), *seen)
    if isinstance(validation, Dataset):
        validation.check_numbers()
    wanted = kan if isinstance(kan, Kan) else create(kan, grid=grids[0], seed=seed)
    template = normalised(wanted, data, of)
    whole, kept_inputs = template, np.ones(len(template.inputs), bool)
    size = parameters(template)
    enough = data.sample(SCREENING_SAMPLES + 4 * size, seed)  # distinct rows of all may not fit in memory
    many = len(data) >= SCREENING_MANY_ROWS and data.x.size <= BATCHES_KEPT
    if screen and validation != 0 and (many or size > different_answers(enough)):
        left_out = held_out(data, validation, max(JUDGED_BY.values()), seed)[0]
        kept_inputs = telling_inputs(template, training_rows(data, left_out, SCREENING_ROWS, seed), of, seed)
    if not kept_inputs.all():
        template, data = narrowed(template, kept_inputs), narrowed_data(data, kept_inputs)
        signs = tuple(np.array(signs)[kept_inputs].tolist()) if signs else ()
        validation = narrowed_data(validation, kept_inputs) if isinstance(validation, Dataset) else validation
    template = with_first_knots(template, data, grids[0], seed)
    few_rows = len(data) <= FITTING_MANY_ROWS
    penalised = l1 != 0 or entropy != 0
    sized = fresh(whole if many else template, grids[0], (seed,))
    method = chosen_method(optimizer, of.name, penalised, few_rows, sized, signs)
    out, held = held_out(data, validation, JUDGED_BY[method], seed)
    few = validation != 0 and held is None
    strengths = smoothing_strengths(smooth, few, noise_free, method == "lm" and held is not None, of.name)
    if finer and method == "lm" and of.name == "cross_entropy" and held is not None and is_narrow(template):
        fine = with_first_knots(template, data, NARROW_CLASS_GRID, seed)
        if parameters(fresh(fine, NARROW_CLASS_GRID, (seed,))) <= different_answers(enough):
            template, grids = fine, (NARROW_CLASS_GRID,)
            strengths = strengths[1:] or strengths  # more intervals need more smoothing
    settings = Settings(
        method=method,
        loss=of.name,
        shape=of.shape,
        steps=STEPS[method] if steps is None else steps,
        patience=PATIENCE[method] if patience is None else patience,
        seed=seed,
        grids=tuple(grids[:1] if few else grids),
        finer=() if few else finer,
        look_ahead=len(grids) if noise_free else 2,
        starts=start_count(method, of.name, penalised, template) if starts is None else starts,
        strengths=strengths,
        monotonic=signs,
        learning_rate=learning_rate,
        batch=batch,
        l1=l1,
        entropy=entropy,
        device=device,
    )
    watch = Watch(progress is True, progress if callable(progress) else None)
    if not kept_inputs.all():
        tell_of_inputs(whole, kept_inputs, watch)
    kept = Checkpoint()
    if checkpoint is not None:
        kept = begun_or_begin(checkpoint, fingerprint(wanted, data, validation, settings))
        if kept.finished:
            return kept.kan("result")

    def finished(kan: Kan) -> Kan:
        rows = data.sample(JUDGED_BY[method], seed)
        result = no_worse_than_a_constant(kan, rows, of)
        if of.log_link:
            result = with_exponential(result)
        if not kept_inputs.all():
            result = widened(result, whole, kept_inputs)
        return record_rows(with_clipped_inputs(result) if extrapolation == "clip" else result, *seen)

    train = _least_squares if method == "lm" else _descent
    try:
        last, judged = train(template, data, out, held, settings, watch, kept)
        result = finished(last)
        kept.finish(result)
        learned = training_rows(data, out, WARNINGS_ROWS, seed)
        alone = replace(settings, starts=min(settings.starts, STARTS_OF_LEFT_OUT))

        def refit(rows: Dataset) -> Kan:
            return train(template, rows, None, None, alone, Watch(False, None), Checkpoint())[0]

        again = refit if kept_inputs.all() else None
        unused = unused_arguments(method, device, learning_rate, batch)
        fitted = Fitted(judged, learned, held, of, extrapolation == "clip", few, unused, again)
        warn_of(fitted, stacklevel=3)
    except KeyboardInterrupt:
        if watch.best is None:
            raise
        error, best = watch.best
        logging.getLogger("kanserve").warning("Interrupted: the best network so far has an error of %.3g.", error)
        result = finished(best())
    watch.finish()
    return result


def _least_squares(
    template: Kan,
    data: Dataset,
    out: Places | None,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    kept: Checkpoint,
) -> tuple[Kan, Kan]:
    """The network, and the one that has not seen the validation rows."""
    every = data.sample(MOST_ROWS, settings.seed)
    train = training_rows(data, out, MOST_ROWS, settings.seed)
    return schedule.run(template, every, Schedule(train, held, settings, watch, kept))


def _descent(
    template: Kan,
    data: Dataset,
    out: Places | None,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    kept: Checkpoint,
) -> tuple[Kan, Kan]:
    """The network trained by LBFGS or Adam, and the one that has not seen the validation rows; this imports torch."""
    from kanserve.train.torch.descent_starts import best_start
    from kanserve.train.torch.gradient_fit import descend

    if kept.holds("chosen"):
        result = kept.kan("chosen")
    else:
        seeds = ((settings.seed, *([number] if number else [])) for number in range(settings.starts))
        starts = (fresh(template, settings.grids[0], one, HIDDEN, True) for one in seeds)
        begun = settings.starts == 1 or kept.holds("structure")  # a checkpoint has what came after the starts
        start = next(starts) if begun else best_start(starts, data, held, settings, watch, out)
        result = descend(start, data, held, settings, without=out, watch=watch, checkpoint=kept)
    chosen = result
    if out is not None and len(data) <= SETTLED_ROWS and not settings.penalised:
        kept.keep({"chosen": result}, {})
        last = replace(
            settings,
            method="lbfgs",
            steps=SETTLE_STEPS,
            grids=settings.grids[:1],
            finer=(),
            learning_rate=None,
        )
        result = descend(result, data, None, last)
    if not np.isfinite(evaluate(result, data.sample(JUDGED_BY[settings.method], settings.seed).x)).all():
        raise TrainingError(f"{settings.method} found no finite network. Try a smaller learning_rate.")
    return result, chosen
