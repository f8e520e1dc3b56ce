"""The data of a session: training rows, held-out rows, and the loss of a network on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, InputError
from kanserve.network.edge_names import edge_names
from kanserve.network.encoding import encodes, without_encoding
from kanserve.network.kan import Kan
from kanserve.simplification.activations import answers, values
from kanserve.simplification.edge_candidates import within_domain
from kanserve.simplification.validation import Judge, judge_of, split_rows
from kanserve.train.encoded_data import in_numbers

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SessionData:
    """All rows of a session's data, and the `Judge` with the training and held-out rows. `data` and `judge` have
    encoded numbers, `given` raw codes and missing values. `loss` and `error` accept networks with or without encoding,
    everything else only those without."""

    data: Dataset
    judge: Judge
    seed: int
    given: Dataset

    @property
    def held(self) -> Dataset:
        """The held-out rows."""
        assert self.judge.held is not None  # ensured by `rows_for`
        return self.judge.held

    @property
    def held_as_given(self) -> Dataset:
        """The held-out rows with raw category codes and missing values."""
        if self.given is self.data:
            return self.held
        if self.judge.held is self.judge.learn:
            return self.given
        return split_rows(self.given.counted(), self.seed)[1]

    def work(self, kan: Kan) -> float:
        """The multiply-adds of all rows through a network's splines."""
        return float(len(self.judge.x) * sum(layer.coefficients.size for layer in kan.layers))

    def loss(self, kan: Kan) -> float:
        """The loss on the held-out rows: the mean squared error relative to the variances, or the cross-entropy."""
        with np.errstate(over="ignore"):
            return float(self.judge.losses(of_numbers(kan)).mean())

    def error(self, kan: Kan) -> float:
        """The root mean squared error on the training rows, relative to the standard deviations."""
        with np.errstate(over="ignore"):
            return self.judge.error_of(answers(of_numbers(kan), self.judge.learn.x))


def of_numbers(kan: Kan) -> Kan:
    """The network without its encoding, which takes encoded numbers; `kan` itself if nothing is encoded."""
    return without_encoding(kan) if encodes(kan) else kan


def restore_encoding(edited: Kan, before: Kan) -> Kan:
    """Restore the encoding (categories and fill values) of `before` in an edited network of encoded numbers."""
    if not encodes(before):
        return edited
    inputs = zip(before.inputs, edited.inputs, strict=True)
    return replace(edited, inputs=tuple(replace(variable, name=now.name) for variable, now in inputs))


def rows_for(kan: Kan, data: Dataset, seed: int, held_out: bool) -> SessionData:
    """The data of a session. A fifth is held out, as in `prune` and `symbolify`; without `held_out`, with fewer than 10
    rows, and for classifiers with up to 1000, the training rows are used again. Raises DataError for data of another
    network."""
    mixed_up = sorted(data.inputs) == sorted(variable.name for variable in kan.inputs)
    if mixed_up and data.inputs != tuple(variable.name for variable in kan.inputs):
        raise DataError(
            f"The columns are {', '.join(data.inputs)}; the network takes them in the order "
            f"{', '.join(variable.name for variable in kan.inputs)}."
        )
    given = data
    if len(data.inputs) == len(kan.inputs):
        seen, numbers = in_numbers(kan, data)
        kan, data = (seen, numbers) if encodes(kan) else (kan, given)
    judge = judge_of(kan, data, "auto", seed)
    if held_out:
        return SessionData(data, judge, seed, given)
    counted = data.counted()
    goal = answers(kan, counted.x) if kan.classes else counted.y
    finite = np.flatnonzero(np.isfinite(goal).all(axis=1))
    learn = counted.take(finite)
    return SessionData(data, replace(judge, learn=learn, held=learn, goal=goal[finite]), seed, given)


def require_sound(before: Kan, after: Kan, rows: SessionData) -> Kan:
    """Return the edited network. Raises InputError if a function leaves its domain, or fewer rows are finite."""
    found = values(after, rows.judge.x)
    trouble = _outside_domain(after, found)
    if trouble and not _outside_domain(before, values(before, rows.judge.x)):
        raise InputError(trouble)
    left = _finite(found[-1])
    if left < len(rows.judge.x) and left < (had := _finite(answers(before, rows.judge.x))):
        raise InputError(f"With that, the network is finite on {left} of the rows; it was on {had}.")
    return after


def _finite(outputs: Array) -> int:
    return int(np.isfinite(outputs).all(axis=1).sum())


def _outside_domain(kan: Kan, found: Sequence[Array]) -> str:
    """An error text for a named function that leaves its domain at these inputs of each layer; "" if none does."""
    for depth, (layer, v) in enumerate(zip(kan.layers, found, strict=False)):
        v = v[np.isfinite(v).all(axis=1)]
        for j, i in np.argwhere(layer.symbolic_mask) if len(v) else ():
            function, (a, b) = str(layer.functions[j, i]), layer.affine[j, i, :2]
            ends = a * v[:, i].min() + b, a * v[:, i].max() + b
            if not within_domain(function, np.array([ends[0]]), np.array([ends[1]]))[0]:
                name = edge_names(kan)[depth, int(j), int(i)]
                return (
                    f"The function {function} of {name} leaves its domain on the data: it would be given "
                    f"{min(ends):.6g} to {max(ends):.6g}."
                )
    return ""
