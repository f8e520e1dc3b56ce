"""`fit(shape, data)` as a chain of stages around the optimizer; and `kanserve.train.refine`."""

import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, TypeVar, cast

from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset, Target, TrainingData
from kanserve.errors import warn
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.network.parameter_names import names_parameters
from kanserve.train.fit_arguments import Extrapolation, Loss, Monotonic, Optimizer, check_order, samples
from kanserve.train.fit_progress import FitReport
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.lm import levenberg_marquardt
from kanserve.train.optimizers import climb
from kanserve.train.problem import FitOptions, Problem
from kanserve.train.stages import STAGES, through

Refit = TypeVar("Refit", bound=Callable[..., Kan])


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

    A `TrainingWarning` says when the result is no better than a constant or than a line, when it misses structure that
    the rows show, when the rows are too few to tell, and when heavy tails let few rows decide the fit;
    docs/training.md has what to do.

    With `screen`, a regression of 20 or more inputs with 10,000 rows, or fewer than four answers per parameter, is
    fitted on the inputs that tell something about the answers alone: the edges of the others are pruned. A callable
    `progress` and the logger "kanserve" (INFO) say which are left out.

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
        Random starts, of which the best is continued: by default 8 of Levenberg-Marquardt, 24 of a classifier, 1
        without hidden nodes; of LBFGS and Adam 4 for a network with a layer of up to 3 nodes, else 1. A deep network on
        exact data may get three times as many.
    steps : int, optional
        The most steps; for Levenberg-Marquardt, those on all samples at the end.
    smooth : float or "auto"
        The strength of the smoothness penalty on the splines.
    noise_free : bool
        Whether y is exact.
    screen : bool
        Whether inputs that tell nothing may be left out, where there are many rows or few per parameter.
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
    options = FitOptions(
        target=target,
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
        validation=validation,
        learning_rate=learning_rate,
        patience=patience,
        batch=batch,
        seed=seed,
        progress=progress,
        device=device,
        checkpoint=checkpoint,
    )
    problem = Problem.of(shape, samples(data, y), options)
    kan = through(STAGES, problem, climb)
    for text in problem.outcome.warnings:
        warn(text, TrainingWarning)
    problem.outcome.watch.finish()
    return kan


def _recording(refit: Refit) -> Refit:
    """Wrap `refit` to record its rows. Fits inside a search or simplification bypass it: their rows are encoded, and
    hashing would cost a tenth of the shortest fits."""

    @wraps(refit)
    def refit_and_record(kan: Kan, x: ArrayLike, y: ArrayLike, **options: Any) -> Kan:
        result = refit(kan, x, y, **options)
        if result is kan:
            return kan
        return record_rows(result, kan.fitted_rows, hash_rows(Dataset(x, y)))

    return cast(Refit, refit_and_record)  # it has the same signature


refine = _recording(levenberg_marquardt.refine)
