"""Batch sizes and batch rows of LBFGS and Adam steps, and of validation."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from kanserve.data.dataset import MANY
from kanserve.network.kan import Kan
from kanserve.train.fit_settings import Settings
from kanserve.train.torch.batches import Places

GRADIENT_FIT_VALIDATIONS = 50  # validations in an Adam run; LBFGS has one per step
GRADIENT_FIT_FULL_BATCH = 512  # adam's batch: all rows up to the first number, else the second
GRADIENT_FIT_BATCH = 256  # rows of a batch of Adam
GRADIENT_FIT_NUMBERS_AT_ONCE = 2**20  # of the largest array of a pass

JUDGED_BY = (2_000, 20_000)  # validation rows, fewest and most; see `judging_rows`


def validation_interval(settings: Settings) -> int:
    """The number of steps between two validations."""
    return 1 if settings.method == "lbfgs" else max(1, settings.steps // GRADIENT_FIT_VALIDATIONS)


def batch_size(count: int, settings: Settings) -> int:
    """The batch size of a step, for `count` rows."""
    if settings.method == "lbfgs":
        return count
    return min(
        count,
        settings.batch
        if settings.batch is not None
        else count
        if count <= GRADIENT_FIT_FULL_BATCH
        else GRADIENT_FIT_BATCH,
    )


def judging_rows(count: int, settings: Settings) -> int:
    """How many rows to validate on. Validating three rows costs as much as training on one."""
    least, most = JUDGED_BY
    return min(max(least, 3 * validation_interval(settings) * batch_size(count, settings)), most)


def batch_positions(count: int, settings: Settings) -> Callable[[int], Places | None]:
    """A function that maps a step to its row positions, None for all. Each epoch takes every row once, without a short
    last batch; for very many rows, positions are random. They depend only on seed and step, so that a run can resume
    anywhere."""
    size = batch_size(count, settings)
    if size == count:
        return lambda step: None

    def draw(step: int) -> Places:
        return np.sort(np.random.default_rng((settings.seed, step)).integers(0, count, size))

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Places:
        return np.random.default_rng((settings.seed, epoch)).permutation(count)

    def passing(step: int) -> Places:
        epoch, at = divmod(step, count // size)
        return np.sort(order(epoch)[at * size : (at + 1) * size])  # a file of rows is read in its order

    return passing if count <= MANY else draw


def rows_at_once(kan: Kan, penalised: bool) -> int:
    """How many rows to compute at once; the largest arrays are the basis and, with penalties, the edge values."""
    largest: int = max(
        layer.inputs * (layer.coefficients.shape[2] + penalised * layer.subnodes) for layer in kan.layers
    )
    return max(1, GRADIENT_FIT_NUMBERS_AT_ONCE // largest)
