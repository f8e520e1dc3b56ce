"""The input and output of importers: a checkpoint as arrays, the options, and the resulting network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Base, Kan

TOLERANCE = 1e-6

Basis = Literal[
    "chebyshev", "chebyshev2", "legendre", "hermite", "jacobi", "gegenbauer", "laguerre", "bessel", "fibonacci", "lucas"
]
Squash = Literal["tanh", "clamp"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network as its library stored it: arrays with the library's names and precision, and plain settings."""

    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "the checkpoint"  # of the file, for messages

    @property
    def single(self) -> bool:
        """Whether the library computed in float32."""
        return any(array.dtype == np.float32 for array in self.arrays.values())


@dataclass(frozen=True)
class Options:
    """Options for what a checkpoint does not store: the activation `base` next to the splines, the `denominator` of
    radial functions, and a polynomial KAN's `basis`, `parameters` and `squash` (the map to [-1, 1]). `tolerance` limits
    the relative error of refitted edges and of the outputs."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    base: Base | None = None
    denominator: float | None = None
    tolerance: float = TOLERANCE
    basis: Basis | None = None
    parameters: tuple[float, ...] = ()
    squash: Squash | None = None


@dataclass(frozen=True, eq=False)
class Conversion:
    """The network, with notes on what was left out or refitted. `refitted`: approximate within the tolerance."""

    kan: Kan
    library: str
    notes: tuple[str, ...] = ()
    refitted: bool = False
