"""Prune uninformative inputs before a regression with many rows, or with few rows per parameter."""

import logging
from dataclasses import replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.creation import create
from kanserve.train.fit_progress import Watch
from kanserve.train.input_screening import (
    SCREENING_CERTAIN,
    all_predict_better,
    rate_pairs,
    residuals,
    robust_answers,
    screenable,
    worth_of,
)
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

SCREENING_ROWS = 20_000  # enough to choose inputs by
SCREENING_STEPS = 10  # of the additive fit to the inputs kept
SCREENING_RIDGE = 1e-3  # of the same fit


def telling_inputs(kan: Kan, data: Dataset, loss: LossFunction, seed: int) -> NDArray[np.bool_]:
    """Mask (I,) of the inputs that explain something about these targets; all True if none may be dropped."""
    every = np.ones(len(kan.inputs), bool)
    if data.classes or not screenable(kan):
        return every
    rows = data.sample(SCREENING_ROWS, seed)
    t = robust_answers(kan, rows, loss)
    alone = _tell(worth_of(rows.x, t))
    left = _residuals(kan, rows, t, alone, seed)
    chosen = alone | _tell(worth_of(rows.x, left)) | _tell(worth_of(rows.x, left**2)) | _tell(rate_pairs(rows.x, left))
    if not chosen.any() or all_predict_better(rows.x, t, chosen, seed):
        return every
    return chosen


def _tell(worth: Array) -> NDArray[np.bool_]:
    """Mask (I,) of the inputs that explain more than chance."""
    return np.asarray(worth > SCREENING_CERTAIN)


def tell_of_inputs(kan: Kan, kept: NDArray[np.bool_], watch: Watch) -> None:
    """Report and log which inputs are dropped."""
    names = [", ".join(kan.inputs[i].name for i in np.flatnonzero(some)) for some in (kept, ~kept)]
    watch.tell(f"{int(kept.sum())} of {len(kept)} inputs", nan, nan, 0.0)
    logging.getLogger("kanserve").info(
        "Fitting on %d of %d inputs, %s: the others are left out, since they tell nothing "
        "(%s). screen=False keeps all.",
        int(kept.sum()),
        len(kept),
        *names,
    )


def _residuals(kan: Kan, rows: Dataset, t: Array, chosen: NDArray[np.bool_], seed: int) -> Array:
    """The residuals of an additive fit of the chosen inputs to t (N, Q)."""
    if not chosen.any():
        return np.asarray(t - t.mean(axis=0))
    additive = create([int(chosen.sum()), t.shape[1]], seed=seed)
    additive = replace(additive, input_shift=kan.input_shift[chosen], input_scale=kan.input_scale[chosen])
    x = rows.x[:, chosen]
    fitted = refine(additive, x, t, steps=SCREENING_STEPS, ridge=SCREENING_RIDGE)
    return residuals(fitted, x, t)
