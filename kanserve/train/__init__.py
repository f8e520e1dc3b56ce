"""Training: networks from data. NumPy alone fits by least squares; LBFGS and Adam need torch, and import it late."""

from kanserve.train.averaging import average
from kanserve.train.common.creation import create
from kanserve.train.common.events import Event
from kanserve.train.common.fit_progress import Progress
from kanserve.train.common.fit_warnings import TrainingWarning
from kanserve.train.common.scoring import Score, score
from kanserve.train.fitting import fit
from kanserve.train.refining import refine

__all__ = ["Event", "Progress", "Score", "TrainingWarning", "average", "create", "fit", "refine", "score"]
