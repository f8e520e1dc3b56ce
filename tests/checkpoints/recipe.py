"""What a recipe makes of a library, and the rows that try it."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Made:
    """A network of another library.

    `write` lets the library write its own files, whose names begin with the path that it is given, and gives back the
    path to import. `answer` is the library's forward on rows (N, inputs), in its precision. `knots` (T, inputs) are
    those of its first layer, in that precision too; `margin` of them lie on either side of the range. `options` is what
    the files do not say, `refused` a word of the reason why nobody can import it.
    """

    model: Any
    write: Callable[[Path], Path]
    answer: Callable[[NDArray[Any]], NDArray[Any]]
    knots: NDArray[Any]
    margin: int
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


def checkout(variable: str, module: str) -> Any:
    """A module of a library that is on no package index, from the folder that the variable names; None without it."""
    folder = os.environ.get(variable)
    if folder is None:
        return None
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


def rows(knots: NDArray[Any], count: int, margin: int) -> NDArray[Any]:
    """About `count` rows (N, inputs) in the precision of the knots (T, inputs), of which `margin` lie on either side.

    On every knot, one ulp beside the ends of the range and of the whole, outside both, and for the rest half inside the
    range and half inside the whole; of the odd rows every second pair is odd in one feature only.
    """
    rng = np.random.default_rng(0)
    inputs = knots.shape[1]
    low, high = knots[margin], knots[len(knots) - 1 - margin]
    size = high - low
    ends = [low, high, knots[0], knots[-1]]
    beside = [np.nextafter(end, knots.dtype.type(way)) for end in ends for way in (-np.inf, np.inf)]
    outside = [knots[0] - 0.1 * size, knots[-1] + 0.1 * size, low - 2 * size, high + 2 * size]
    odd = np.concatenate([knots, beside, outside, np.zeros((1, inputs))])
    alone = np.arange(inputs) == rng.integers(inputs, size=(len(odd), 1))
    alone |= (np.arange(len(odd)) // 2 % 2 == 0)[:, None]
    odd = np.where(alone, odd, rng.uniform(low, high, odd.shape))
    left = max(8, count - len(odd))
    inside = rng.uniform(low, high, (left - left // 2, inputs))
    between = rng.uniform(knots[0], knots[-1], (left // 2, inputs))
    return np.concatenate([inside, between, odd]).astype(knots.dtype)
