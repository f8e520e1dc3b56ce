"""The plan of a least-squares fit, its state, and what its choices ask: how many rows are enough, which fit is good."""

from dataclasses import dataclass

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.common.checkpoints import Checkpoint
from kanserve.train.common.constant_guard import errors, errors_of_constant
from kanserve.train.common.events import Event
from kanserve.train.common.fit_progress import Watch
from kanserve.train.common.fit_settings import Settings
from kanserve.train.common.losses import LossFunction
from kanserve.train.common.training_settings import TRAINING
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_candidates import Candidate

EXACT = ("squared", "huber", "quantile")  # losses with a best network on every data


@dataclass(frozen=True, eq=False)
class Schedule:
    """Training rows, validation rows (None: the same), and settings."""

    train: Dataset
    held: Dataset | None
    settings: Settings
    watch: Watch
    checkpoint: Checkpoint

    @property
    def loss(self) -> LossFunction:
        return self.settings.function

    @property
    def judges(self) -> Dataset:
        return self.train if self.held is None else self.held


@dataclass
class Run:
    """The state of a schedule: how much of the work is done; it writes the checkpoint and reports progress."""

    plan: Schedule
    work: float
    """Multiply-adds of the whole schedule: an estimate, since it may end early."""
    done: float = 0.0
    units: int = 0
    loss: float = np.nan

    def fitted(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Candidate:
        """The network fitted to these rows, from the checkpoint if it is there; else it is fitted and kept."""
        plan = self.plan
        name, effort = f"unit {self.units}", work_of(kan, rows, steps)
        if plan.checkpoint.holds(name):
            plan.watch.recalled += effort / self.work
        result = plan.checkpoint.recall(name, lambda: self._refined(kan, rows, smooth, steps))
        one = Candidate(result, smooth, errors(result, plan.judges, plan.loss), plan.judges.shares)
        self.units += 1
        self.done = min(self.done + effort, self.work)
        best = plan.watch.best
        if np.isfinite(one.error) and (best is None or one.error < best[0]):
            plan.watch.best = one.error, lambda: one.kan
        return one

    def tell(self, stage: str, error: float, share: float | None = None) -> None:
        """Report that a stage has ended with this error on the validation rows."""
        if self.plan.loss.name == "squared":
            error = float(np.sqrt(error))
        self.plan.watch.tell(stage, error, self.loss, self.done / self.work if share is None else share)

    def _refined(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Kan:
        def report(event: Event) -> None:
            squared = self.plan.loss.name == "squared"
            self.loss = np.sqrt(2 * event.loss / rows.y.shape[1]) if squared else event.loss

        exact = self.plan.loss.name in EXACT
        least = TRAINING.schedule_exact_ridge if exact else TRAINING.schedule_scores_ridge
        return refine(
            kan,
            rows.x,
            rows.y,
            steps=steps,
            smooth=smooth,
            ridge=smooth / 10 if smooth > 0 else least,
            jumps=TRAINING.schedule_exact_jumps if exact and smooth == 0 and is_deep(kan) else 0.0,
            weights=rows.weights,
            patience=self.plan.settings.patience,
            progress=report,
            loss=self.plan.loss,
            monotonic_cst=self.plan.settings.monotonic,
        )


def enough_rows(rows: Dataset, kan: Kan, plan: Schedule) -> Dataset:
    """A sample of the rows, large enough for choices about this network, and small enough for quick steps."""
    size = parameters(kan)
    enough = min(TRAINING.schedule_enough_each * size, int(TRAINING.schedule_enough_work / max(size, 1) ** 2))
    return rows.sample(max(TRAINING.schedule_enough_rows, enough), plan.settings.seed)


def work_of(kan: Kan, rows: Dataset, steps: int) -> float:
    """The approximate multiply-adds of so many steps: J'J and its factorisation."""
    size = parameters(kan)
    return steps * (rows.y.size * size * (size + 20.0) + size**3 / 3)


def is_good(best: Candidate, plan: Schedule) -> bool:
    constant = errors_of_constant(best.kan, plan.train, plan.judges, plan.loss)
    return best.error < TRAINING.schedule_good_share * float(plan.judges.shares @ constant)


def is_narrow(kan: Kan) -> bool:
    """Whether a hidden layer has few nodes."""
    return len(kan.layers) > 1 and min(layer.nodes for layer in kan.layers[:-1]) <= TRAINING.fitting_narrow


def is_deep(kan: Kan) -> bool:
    return len(kan.layers) > 2


def different_answers(data: Dataset) -> int:
    """The number of answers at distinct inputs: a repeated row determines no more parameters."""
    return len(np.unique(data.x, axis=0)) * int(data.y.shape[1])
