"""Batches of rows as torch tensors. A small data set is converted once, a large one part by part."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset, past
from kanserve.data.row_weights import scale_weights
from kanserve.errors import MissingDependencyError
from kanserve.train.input_screening import BATCHES_KEPT

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Features x (N, inputs), targets y (N, outputs) and weights (N,) on a device; weights are None if all are 1."""

    x: Tensor
    y: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Batches:
    """The rows of `data` without the `held` ones (indices in ascending order), with weights of mean 1."""

    data: Dataset
    device: str
    held: Places | None = None
    mean_weight: float = field(init=False, default=1.0)
    kept: Batch | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        weights = self.data.weights
        if weights is not None:
            relative = scale_weights(weights)
            total = relative.sum() - (0.0 if self.held is None else relative[self.held].sum())
            mean = np.ldexp(total / len(self), np.frexp(weights.max())[1])
            object.__setattr__(self, "mean_weight", float(mean))
        if len(self) * (self.data.x.shape[1] + self.data.y.shape[1]) <= BATCHES_KEPT:
            object.__setattr__(self, "kept", self._make_batch(slice(0, len(self))))

    def __len__(self) -> int:
        return len(self.data) - (0 if self.held is None else len(self.held))

    def parts(self, size: int, positions: Places | None = None) -> Iterator[Batch]:
        """All rows, or those at `positions`, in batches of at most `size`."""
        count = len(self) if positions is None else len(positions)
        if self.kept is not None and positions is None and count <= size:
            yield self.kept
            return
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            yield self._at(part if positions is None else positions[part])

    def sample(self, most: int) -> Dataset:
        """At most `most` rows, evenly spaced from first to last."""
        positions = np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64)
        return self.data.take(self.places(positions))

    def places(self, positions: Places) -> Places:
        """Convert positions among these rows to row numbers in `data`."""
        return positions if self.held is None else past(self.held, positions)

    def _at(self, positions: Places | slice) -> Batch:
        kept = self.kept
        if kept is None:
            return self._make_batch(positions)
        at = positions if isinstance(positions, slice) else torch.from_numpy(positions).to(self.device)
        return Batch(kept.x[at], kept.y[at], None if kept.weights is None else kept.weights[at])

    def _make_batch(self, positions: Places | slice) -> Batch:
        places: Places | slice = positions
        if self.held is not None:
            every = np.arange(positions.start, positions.stop) if isinstance(positions, slice) else positions
            places = self.places(every)

        def tensor(array: NDArray[np.float64]) -> Tensor:
            return torch.tensor(array, dtype=torch.float64, device=self.device)

        weights = None if self.data.weights is None else tensor(self.data.weights[places] / self.mean_weight)
        return Batch(tensor(self.data.x[places]), tensor(self.data.y[places]), weights)
