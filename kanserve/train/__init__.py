"""Training: fit networks to data. Least squares needs only NumPy; torch is imported when LBFGS or Adam is used."""

from kanserve.train.averaging import average
from kanserve.train.creation import create
from kanserve.train.fit_progress import Event, Progress
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.fitting import fit, refine
from kanserve.train.scoring import Score, score

__all__ = ["Event", "Progress", "Score", "TrainingWarning", "average", "create", "fit", "refine", "score"]
