"""Counts the latest rows that a version has answered in the bins of its training rows: see `network.stability_index`.

One row of each request is counted. That takes about 1 % of the time of the fastest request, which four rows would
exceed, and rows of one request often have much in common, so that more of them would tell little more.

The loop of the native transport counts its own rows (`count_inputs` in kanserve/native/server/infer.c), in an array of
the same layout: BLOCKS blocks, which are filled one after another and then again, each with the number of its rows and
COUNTS numbers for every input.
"""

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Variable

if TYPE_CHECKING:
    from kanserve.serve.rpc.range_violations import Bounds

EDGES = 9  # between bins, of an input; those after its last one are infinite
MISSING, OUTSIDE = EDGES + 1, EDGES + 2  # after the bins, how many values are missing, and how many out of range
COUNTS = EDGES + 3
# The window is between three and four blocks long. With more blocks it would be steadier, and take more memory.
BLOCKS = 4
# Rows that wait to be counted together, since NumPy takes as long for one as for a hundred.
TOGETHER = 128

Blocks = NDArray[np.int64]


class InputCounts:
    """The counts of one version; `rows` is how many its window holds, 0 for none. Thread-safe.

    `edges` and `loop_blocks` belong to the loop of the native transport too, which writes the latter.
    """

    def __init__(self, inputs: tuple[Variable, ...], rows: int) -> None:
        known = rows > 0 and any(variable.bin_counts for variable in inputs)
        self.block_rows = -(-rows // BLOCKS) if known else 0
        self.edges = np.full((len(inputs), EDGES), np.inf)
        for i, variable in enumerate(inputs):
            self.edges[i, : len(variable.bin_edges)] = variable.bin_edges
        size = 1 + BLOCKS * (1 + len(inputs) * COUNTS) if known else 0
        self.loop_blocks = np.zeros(size, np.int64)  # first the number of the block that is being filled
        self._blocks = np.zeros(size, np.int64)
        self._lock = Lock()
        self._waiting: list[tuple[Bounds, NDArray[Any]]] = []

    def add(self, x: NDArray[Any], bounds: "Bounds") -> None:
        """Count one of the rows (N, inputs) of a request, another each time."""
        if not self.block_rows or not len(x):
            return
        row = len(self._waiting) % len(x)
        self._waiting.append((bounds, x[row : row + 1].copy()))
        if len(self._waiting) >= TOGETHER:
            self._count_waiting()

    def total(self) -> tuple[int, NDArray[np.int64]]:
        """The rows of the window, and the counts (inputs, COUNTS); of the loop's rows and of all others."""
        self._count_waiting()
        blocks = self._blocks[1:].reshape(BLOCKS, -1) + self.loop_blocks[1:].reshape(BLOCKS, -1)
        whole = blocks.sum(axis=0)
        return int(whole[0]), whole[1:].reshape(-1, COUNTS)

    def _count_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for bounds in {id(bounds): bounds for bounds, _ in waiting}.values():
                self._count(np.concatenate([x for of, x in waiting if of is bounds]), bounds)

    def _count(self, x: NDArray[Any], bounds: "Bounds") -> None:
        blocks = self._blocks[1:].reshape(BLOCKS, -1)
        if blocks[self._blocks[0], 0] >= self.block_rows:
            self._blocks[0] = (self._blocks[0] + 1) % BLOCKS
            blocks[self._blocks[0]] = 0
        block = blocks[self._blocks[0]]
        block[0] += len(x)
        counts = block[1:].reshape(-1, COUNTS)
        bins = np.where(np.isnan(x), MISSING, (x[:, :, None] >= self.edges).sum(axis=2))
        flat = bins + COUNTS * np.arange(len(counts))
        counts += np.bincount(flat.ravel(), minlength=counts.size).reshape(counts.shape)
        outside = bounds.find_violations(x)
        if outside is not None:
            counts[:, OUTSIDE] += outside.features
