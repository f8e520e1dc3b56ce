"""What a fit is told to do, once that is decided: plain data, so that asking for LBFGS does not load torch yet."""

from dataclasses import dataclass
from typing import Literal

Loss = Literal["squared", "cross_entropy"]
Method = Literal["lm", "lbfgs", "adam"]


@dataclass(frozen=True)
class Settings:
    """How to fit: see `fit` for what each says. Equal settings, networks and data give equal results."""

    method: Method
    loss: Loss
    steps: int
    patience: int
    seed: int = 0
    grids: tuple[int, ...] = (3,)
    strengths: tuple[float, ...] = (0.0,)
    """How smooth the splines may be; Levenberg-Marquardt chooses, LBFGS and Adam take the first."""
    # Of Levenberg-Marquardt:
    starts: int = 1
    # Of LBFGS and Adam:
    learning_rate: float | None = None
    batch: int | None = None
    l1: float = 0.0
    entropy: float = 0.0
    device: str = "cpu"

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty with kinks."""
        return self.l1 > 0 or self.entropy > 0
