"""Training: networks from data. NumPy alone fits by least squares; LBFGS and Adam need torch, and import it late."""

from kanserve.train.creation import create
from kanserve.train.fitting import fit
from kanserve.train.levenberg import refine
from kanserve.train.progress import Progress
from kanserve.train.scoring import Score, score

__all__ = ["Progress", "Score", "create", "fit", "refine", "score"]
