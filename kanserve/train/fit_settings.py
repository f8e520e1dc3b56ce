"""The settings of a fit after all choices are made. Plain data, so that choosing LBFGS does not load torch yet."""

from dataclasses import dataclass
from math import nan
from typing import Literal

from kanserve.errors import TrainingError
from kanserve.train.argument_checks import not_negative, whole
from kanserve.train.losses import LossFunction, LossName

Method = Literal["lm", "lbfgs", "adam"]


@dataclass(frozen=True)
class Settings:
    """The settings of a fit, documented in `fit`. Equal settings, networks and data give equal results. Raises
    TrainingError for numbers out of range."""

    method: Method
    loss: LossName
    steps: int
    patience: int
    seed: int = 0
    grids: tuple[int, ...] = (3,)
    strengths: tuple[float, ...] = (0.0,)
    """Smoothing strengths: Levenberg-Marquardt chooses one, LBFGS and Adam take the first."""
    shape: float = nan
    """Of the loss: `LossFunction.shape`."""
    starts: int = 1
    finer: tuple[int, ...] = ()
    """Grids to go on to where the held-out residuals have structure that the last of `grids` is too coarse for."""
    look_ahead: int = 2
    """Grids in a row that may gain nothing before finer ones are given up."""
    monotonic: tuple[int, ...] = ()
    """Of each input, 1 where the outputs may not fall with it, -1 where they may not rise, 0 where they are free."""
    # Of LBFGS and Adam:
    learning_rate: float | None = None
    batch: int | None = None
    l1: float = 0.0
    entropy: float = 0.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        steps, patience, batch = self.steps, self.patience, self.batch
        if not (whole(steps, 0) and whole(patience, 1) and (batch is None or whole(batch, 1))):
            raise TrainingError(
                f"steps ≥ 0, patience ≥ 1 and batch ≥ 1 are needed, whole numbers; got {steps!r}, {patience!r} and "
                f"{batch!r}."
            )
        if not whole(self.starts, 1):
            raise TrainingError(f"A fit needs at least one start, got {self.starts!r}.")
        if self.learning_rate is not None and not (not_negative(self.learning_rate) and self.learning_rate > 0):
            raise TrainingError(f"learning_rate must be positive and finite, got {self.learning_rate!r}.")
        if not (not_negative(self.l1) and not_negative(self.entropy)):
            raise TrainingError(f"l1 and entropy must be finite, not negative, got {self.l1!r} and {self.entropy!r}.")

    @property
    def function(self) -> LossFunction:
        return LossFunction(self.loss, self.shape)

    @property
    def penalised(self) -> bool:
        """Whether there is an l1 or entropy penalty; these are not smooth."""
        return self.l1 > 0 or self.entropy > 0
