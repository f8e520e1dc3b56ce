"""What an importer takes and gives: a checkpoint of any library as arrays, the choices, and the network it became."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Base, Kan

TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network as its library stored it: arrays by the names that the library gives them, in its precision,
    and whatever plain settings lie beside them.
    """

    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "the checkpoint"  # of the file, for messages

    @property
    def single(self) -> bool:
        """Whether the library computed in float32."""
        return any(array.dtype == np.float32 for array in self.arrays.values())


@dataclass(frozen=True)
class Options:
    """What a checkpoint does not say.

    `base`: the activation beside the splines where the library does not store it; `denominator` of radial functions
    that was not the default; `tolerance`: how far the outputs of a network whose edges are refitted may be from the
    original's, in parts of the largest, and a refitted edge from its own, in parts of its largest value.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    base: Base | None = None
    denominator: float | None = None
    tolerance: float = TOLERANCE


@dataclass(frozen=True, eq=False)
class Conversion:
    """The network, and what its owner should know: what was left out, what was refitted and how well.

    `refitted`: whether it is within a tolerance rather than exact.
    """

    kan: Kan
    library: str
    notes: tuple[str, ...] = ()
    refitted: bool = False
