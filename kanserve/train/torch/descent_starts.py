"""The start of LBFGS and Adam: short runs of several networks on few rows, of which the best is continued."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np

from kanserve.data.dataset import Dataset, past, some
from kanserve.network.kan import Kan
from kanserve.train.constant_guard import errors
from kanserve.train.fit_progress import Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.lm.schedule import SCHEDULE_START_ROWS
from kanserve.train.torch.batches import Places
from kanserve.train.torch.gradient_fit import descend

FITTING_DESCENT_START_STEPS = 20  # of each start of LBFGS
FITTING_ADAM_START_FACTOR = 5  # times as many steps of each start of Adam


def best_start(
    starts: Iterable[Kan],
    train: Dataset,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    without: Places | None = None,
) -> Kan:
    """The start to go on from: each takes a few steps, and the one of the lowest validation loss is the result."""
    longer = 1 if settings.method == "lbfgs" else FITTING_ADAM_START_FACTOR
    steps = min(settings.steps, longer * FITTING_DESCENT_START_STEPS)
    short = replace(settings, steps=steps, grids=settings.grids[:1], finer=())
    gone = np.zeros(0, np.int64) if without is None else without
    left = len(train) - len(gone)
    rows = train.take(past(gone, some(left, min(left, SCHEDULE_START_ROWS), settings.seed)))
    judges = rows if held is None else held.sample(SCHEDULE_START_ROWS, settings.seed)
    best, least = None, inf
    whole = settings.starts * steps + settings.steps
    for number, start in enumerate(starts):
        found = descend(start, rows, None, short)
        loss = float(judges.mean(errors(found, judges, settings.function)))
        if best is None or loss < least:
            best, least = found, loss
            watch.best = loss, partial(_itself, found)
        watch.tell(f"start {number + 1} of {settings.starts}", least, least, (number + 1) * steps / max(whole, 1))
    assert best is not None
    watch.before = settings.starts * steps / max(whole, 1)
    return best


def _itself(kan: Kan) -> Kan:
    return kan
