"""The curves of all edges of a large network, small enough to be sent at once and drawn on a canvas."""

import base64
from dataclasses import dataclass

import numpy as np

from kanserve.editing import Session
from kanserve.editing.session_data import of_numbers
from kanserve.editing.snapshot import shares_of
from kanserve.errors import InputError
from kanserve.network.evaluate import edges
from kanserve.simplification.activations import values

MOST_SMALL_TILES = 10_000  # a network with at most so many edges is drawn whole, as small tiles
SMALL_TILE_POINTS = 17  # of the curve of such a tile

MISSING = 255


@dataclass(frozen=True)
class SmallTiles:
    """Every edge that is not zero, in the order of the layers, each a row of `points` bytes in `curves`, in base64.

    A curve goes from 0, its least value, to 254; 255 is a value that is not finite. `places` are layer, sum and input;
    `snapped` says which edges have a named function and no spline.
    """

    points: int
    places: tuple[tuple[int, int, int], ...]
    shares: tuple[float, ...]
    snapped: tuple[bool, ...]
    curves: str


@np.errstate(all="ignore")
def small_tiles(session: Session) -> SmallTiles:
    """The tiles of a session's network; InputError above `STUDIO.most_small_tiles` edges."""
    kan, x = of_numbers(session.kan), session.rows.judge.x
    if kan.edges > MOST_SMALL_TILES:
        raise InputError(f"At most {MOST_SMALL_TILES:,} edges are drawn at once, the network has {kan.edges:,}.")
    places, shares, snapped, curves = [], [], [], []
    for depth, (layer, v, share) in enumerate(zip(kan.layers, values(kan, x), shares_of(kan, x), strict=False)):
        v = v[np.isfinite(v).all(axis=1)]
        low, high = (v.min(axis=0), v.max(axis=0)) if len(v) else (np.zeros(layer.inputs),) * 2
        if depth == 0:  # from left to right in the user's units
            low, high = np.where(kan.input_scale > 0, low, high), np.where(kan.input_scale > 0, high, low)
        given = edges(layer, np.linspace(low, high, SMALL_TILE_POINTS))
        j, i = np.nonzero(layer.alive)
        own = given[:, j, i].T
        fine = np.isfinite(own)
        least = np.where(fine, own, np.inf).min(axis=1, keepdims=True)
        extent = np.where(fine, own, -np.inf).max(axis=1, keepdims=True) - least
        unit = np.where(extent > 0, (own - least) / np.where(extent > 0, extent, 1.0), 0.5)
        curves.append(np.where(fine, np.round(unit * (MISSING - 1)), MISSING).astype(np.uint8))
        places += [(depth, *place) for place in zip(j.tolist(), i.tolist(), strict=True)]
        shares += share[j, i].round(6).tolist()
        snapped += (layer.symbolic_mask & ~layer.spline_mask)[j, i].tolist()
    encoded = base64.b64encode(np.concatenate(curves).tobytes()).decode()
    return SmallTiles(SMALL_TILE_POINTS, tuple(places), tuple(shares), tuple(snapped), encoded)
