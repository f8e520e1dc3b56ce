"""The optimizers: Levenberg-Marquardt, LBFGS and Adam."""

import logging
from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.errors import TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train.checkpoints import Checkpoint, fingerprint, resume_or_begin
from kanserve.train.creation import random_init
from kanserve.train.fit_arguments import JUDGED_BY, Places, training_rows
from kanserve.train.fit_progress import Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.lm import schedule
from kanserve.train.lm.schedule_run import Schedule
from kanserve.train.problem import Problem

HIDDEN = 0.5  # half-width of hidden grids: about the range of random splines' sums; if wider, splines stay straight
SETTLED_ROWS = 20_000  # last steps of LBFGS and Adam, held-out rows included: up to so many rows
SETTLE_STEPS = 20  # of the last descent
MOST_ROWS = 200_000  # of a least-squares fit, whose few parameters gain nothing from more


def climb(problem: Problem) -> Kan:
    """Train the network; after Ctrl-C it is the best so far. A fit that its checkpoint has finished is only read."""
    plan, outcome = problem.plan, problem.outcome
    assert plan is not None
    checkpoint = Checkpoint()
    if outcome.checkpoint is not None:
        marks = fingerprint(problem.structure, problem.data, problem.validation, plan.settings)
        checkpoint = resume_or_begin(outcome.checkpoint, marks)
        if checkpoint.finished:
            return checkpoint.kan("result")
    try:
        kan, outcome.judged = train(
            problem.kan, problem.data, plan.out, plan.held, plan.settings, outcome.watch, checkpoint
        )
        checkpoint.finish(kan)
    except KeyboardInterrupt:
        if outcome.watch.best is None:
            raise
        outcome.judged = None
        error, best = outcome.watch.best
        logging.getLogger("kanserve").warning("Interrupted: the best network so far has an error of %.3g.", error)
        return best()
    return kan


def train(
    template: Kan,
    data: Dataset,
    out: Places | None,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    kept: Checkpoint,
) -> tuple[Kan, Kan]:
    """Returns the trained network, and the one fitted without the held-out rows."""
    if settings.method != "lm":
        return _descent(template, data, out, held, settings, watch, kept)
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
    """Like `train`, by LBFGS or Adam; imports torch."""
    from kanserve.train.torch.gradient_fit import best_start, descend

    if kept.holds("chosen"):
        result = kept.kan("chosen")
    else:
        seeds = ((settings.seed, *([number] if number else [])) for number in range(settings.starts))
        starts = (random_init(template, settings.grids[0], seed, HIDDEN, True) for seed in seeds)
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
