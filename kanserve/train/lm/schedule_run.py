"""The plan and the state of a least-squares fit, and what its choices ask: enough rows? a good fit?"""

from dataclasses import dataclass

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.checkpoints import Checkpoint
from kanserve.train.constant_guard import errors, errors_of_constant
from kanserve.train.fit_progress import Event, Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_candidates import Candidate
from kanserve.train.losses import LossFunction

FITTING_NARROW = 3  # nodes of a hidden layer up to which it is narrow
EXACT_RIDGE = 1e-13  # the lowest error on exact data is about 1e5 times its square root
# Of fits of deep networks to exact data, on the jumps of the splines' highest derivatives: at the ends of hidden
# ranges, where few rows are, splines go on as polynomials instead of falling to 0. Of 1e-11 to 1e-6 it is best on
# [4,4,2,1].
EXACT_JUMPS = 1e-7
ENOUGH_ROWS = 5000  # rows, and rows per parameter: more change less than the choices do
ENOUGH_EACH = 50  # rows for each parameter that count as enough
ENOUGH_WORK = 6e9  # the most rows times squared parameters, so that choices about wide networks take seconds
GOOD_SHARE = 0.01  # of the error of a constant: a fit with less needs no finer grids than the default ones
SCORES_RIDGE = 1e-6  # of losses that may have no finite best scores: classes that can be separated, counts of 0

EXACT = ("squared", "huber", "quantile")  # losses with a best network on every data


@dataclass(frozen=True, eq=False)
class Schedule:
    """Training rows, validation rows (None: the training rows are used), and settings."""

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
    """The progress of a schedule. It writes the checkpoint and reports progress."""

    plan: Schedule
    work: float
    """Multiply-adds of the whole schedule: an estimate, since it may end early."""
    done: float = 0.0
    units: int = 0
    loss: float = np.nan

    def fit_rows(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Candidate:
        """Fit the network to these rows, or read the result from the checkpoint."""
        plan = self.plan
        name, effort = f"unit {self.units}", work_of(kan, rows, steps)
        if plan.checkpoint.holds(name):
            plan.watch.recalled += effort / self.work
        result = plan.checkpoint.recall(name, lambda: self._refine(kan, rows, smooth, steps))
        candidate = Candidate(result, smooth, errors(result, plan.judges, plan.loss), plan.judges.shares)
        self.units += 1
        self.done = min(self.done + effort, self.work)
        best = plan.watch.best
        if np.isfinite(candidate.error) and (best is None or candidate.error < best[0]):
            plan.watch.best = candidate.error, lambda: candidate.kan
        return candidate

    def tell(self, stage: str, error: float, share: float | None = None) -> None:
        """Report the end of a stage and its error on the validation rows."""
        if self.plan.loss.name == "squared":
            error = float(np.sqrt(error))
        self.plan.watch.tell(stage, error, self.loss, self.done / self.work if share is None else share)

    def _refine(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Kan:
        def report(event: Event) -> None:
            squared = self.plan.loss.name == "squared"
            self.loss = np.sqrt(2 * event.loss / rows.y.shape[1]) if squared else event.loss

        exact = self.plan.loss.name in EXACT
        least = EXACT_RIDGE if exact else SCORES_RIDGE
        return refine(
            kan,
            rows.x,
            rows.y,
            steps=steps,
            smooth=smooth,
            ridge=smooth / 10 if smooth > 0 else least,
            jumps=EXACT_JUMPS if exact and smooth == 0 and is_deep(kan) else 0.0,
            weights=rows.weights,
            patience=self.plan.settings.patience,
            progress=report,
            loss=self.plan.loss,
            monotonic_cst=self.plan.settings.monotonic,
        )


def enough_rows(rows: Dataset, kan: Kan, plan: Schedule) -> Dataset:
    """A sample of the rows: large enough for choices about this network, small enough for quick steps."""
    size = parameters(kan)
    enough = min(ENOUGH_EACH * size, int(ENOUGH_WORK / max(size, 1) ** 2))
    return rows.sample(max(ENOUGH_ROWS, enough), plan.settings.seed)


def work_of(kan: Kan, rows: Dataset, steps: int) -> float:
    """The approximate number of multiply-adds of these steps: J'J and its factorisation."""
    size = parameters(kan)
    return steps * (rows.y.size * size * (size + 20.0) + size**3 / 3)


def is_good(best: Candidate, plan: Schedule) -> bool:
    constant = errors_of_constant(best.kan, plan.train, plan.judges, plan.loss)
    return best.error < GOOD_SHARE * float(plan.judges.shares @ constant)


def is_narrow(kan: Kan) -> bool:
    return len(kan.layers) > 1 and min(layer.nodes for layer in kan.layers[:-1]) <= FITTING_NARROW


def is_deep(kan: Kan) -> bool:
    return len(kan.layers) > 2


def different_answers(data: Dataset) -> int:
    """The number of targets at distinct inputs; a repeated row determines no further parameters."""
    return len(np.unique(data.x, axis=0)) * int(data.y.shape[1])
