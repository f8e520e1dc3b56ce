"""Refit networks of radial basis functions (RBF) as splines, with outputs within a tolerance. Both networks are
evaluated on the same rows, and the edges are refitted more closely until the outputs agree, since later layers may
amplify errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, NetworkError
from kanserve.importers.rbf_splines import ORDER, Refit, refit
from kanserve.network import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Layer

Array = NDArray[np.float64]

_NUMBERS = 1 << 21  # values of edges on all rows of a measurement
_FEWEST, _MOST = 40, 2000  # rows
_LEADERS, _STEPS = 8, (0.1, 0.03, 0.01)  # local search around the worst rows; steps in denominators
_SURE, _AIM = 3, 4  # safety factors on the measured error, since other rows may be worse: required, and aimed at


@dataclass(frozen=True, eq=False)
class Radial:
    """A radial layer y_j = Σ_i Σ_g weights[j,i,g]·exp(-((v_i - centres[i,g])/denominator)²) + rest(v)_j. `rest` is a
    layer of base functions and named functions c·f(v_i); it uses all inputs of v, the Gaussians the first ones. The
    layers `before` compute v from the inputs."""

    place: str
    weights: Array  # (O, I, N)
    centres: Array  # (I, N)
    denominator: float
    rest: Layer
    before: tuple[Layer, ...] = ()

    def with_splines(self, splines: Refit) -> Layer:
        """The layer with splines instead of Gaussians. Raises CheckpointError if they overflow."""
        more = self.rest.inputs - self.weights.shape[1]
        knots = np.broadcast_to(splines.knots, (self.weights.shape[1], splines.knots.shape[-1]))
        try:
            return replace(
                self.rest,
                knots=np.pad(knots, ((0, more), (0, 0)), mode="edge"),
                coefficients=np.pad(splines.coefficients, ((0, 0), (0, more), (0, 0))),
                order=ORDER,
                extrapolation="zero",
            )
        except NetworkError as error:
            raise CheckpointError(f"{self.place}: {error}") from None

    def own(self, v: Array) -> Array:
        """The columns of v that the Gaussians take."""
        return v[:, : self.weights.shape[1]]

    def gaussians(self, v: Array) -> Array:
        """The sums of the Gaussians at v (R, O)."""
        values = np.exp(-np.square((self.own(v)[:, :, None] - self.centres) / self.denominator)).reshape(len(v), -1)
        result: Array = values @ self.weights.reshape(len(self.weights), -1).T
        return result

    def others(self, v: Array) -> Array:
        """The values of `rest` at v (R, O)."""
        total: Array = evaluate.base(self.rest, v) @ self.rest.base_weight.T + self.rest.subnode_bias
        for name in set(self.rest.functions.ravel().tolist()) - {""}:
            factors = np.where(self.rest.functions == name, self.rest.affine[:, :, 2], 0.0)
            total += FUNCTIONS[name].numpy(v) @ factors.T
        return total


@dataclass(frozen=True, eq=False)
class Refitted:
    """The layers, the refit of each radial layer, and the largest absolute error `difference` of any output on `rows`
    rows, relative to the largest output."""

    layers: tuple[Layer, ...]
    refits: tuple[Refit, ...]
    difference: float
    rows: int


def refit_network(network: Sequence[Radial], tolerance: float) -> Refitted:
    """Replace the Gaussians by splines, with the fewest intervals that keep edges and outputs within the tolerance."""
    within, best = tolerance, math.inf
    while True:
        try:
            refits = [_refit(layer, within) for layer in network]
        except CheckpointError:
            if best == math.inf:
                raise
            raise _out_of_reach(tolerance, best) from None
        rows = _rows(network)  # only now: the refit has checked that the Gaussians have a sensible size
        difference = _difference(network, refits, rows)
        if _SURE * difference <= tolerance:
            pairs = zip(network, refits, strict=True)
            layers = (layer for radial, splines in pairs for layer in (*radial.before, radial.with_splines(splines)))
            return Refitted(tuple(layers), tuple(refits), difference, len(rows))
        if difference > 0.9 * best:  # closer edges do not help: what is left is rounding
            raise _out_of_reach(tolerance, best)
        best = difference
        within *= tolerance / (_AIM * difference)


def notes(network: Sequence[Radial], found: Refitted) -> list[str]:
    """Notes on the refit: intervals, sizes and errors."""
    said = [
        f"{layer.place}: the Gaussians of each edge became a spline of order {ORDER} on {splines.intervals} intervals,"
        f" nowhere further from them than {splines.error:.2g} of the edge's largest value."
        for layer, splines in zip(network, found.refits, strict=True)
    ]
    before, after = sum(layer.weights.size for layer in network), sum(layer.coefficients.size for layer in found.refits)
    said.append(
        f"The splines have {after:,} coefficients ({8e-6 * after:.2g} MB), {after / before:.3g} times the weights"
        f" of the Gaussians. On {found.rows} rows the outputs are within {found.difference:.1g} of the largest."
    )
    return said


def _out_of_reach(tolerance: float, best: float) -> CheckpointError:
    return CheckpointError(
        f"its Gaussians cannot be refitted so that the network's outputs stay within {tolerance:.2g} of the largest,"
        f" since later layers amplify the errors of earlier ones; {1.2 * _SURE * best:.2g} can be met:"
        " give that as tolerance."
    )


def _refit(radial: Radial, within: float) -> Refit:
    try:
        return refit(radial.weights, radial.centres, radial.denominator, within)
    except CheckpointError as error:
        raise CheckpointError(f"{radial.place}: {error}") from None


def _rows(network: Sequence[Radial]) -> Array:
    """Test rows for the first layer's Gaussians: across their range, with equal and with mixed inputs, and outside."""
    first = network[0]
    edges = max(layer.subnodes * layer.inputs for radial in network for layer in (*radial.before, radial.rest))
    count = min(_MOST, max(_FEWEST, _NUMBERS // edges))
    inputs = first.before[0].inputs if first.before else first.weights.shape[1]
    low, high = first.centres.min() - 2 * first.denominator, first.centres.max() + 2 * first.denominator
    rng = np.random.default_rng(0)
    alike = np.linspace(0, 1, count // 4)[:, None].repeat(inputs, axis=1)
    mixed = rng.permuted(alike, axis=0)
    inside = rng.uniform(0, 1, (count - 3 * (count // 4), inputs))
    wide = rng.uniform(-1, 2, (count // 4, inputs))
    with np.errstate(over="ignore"):
        result: Array = low + (high - low) * np.concatenate([alike, mixed, inside, wide])
    return result


def _difference(network: Sequence[Radial], refits: Sequence[Refit], rows: Array) -> float:
    """The largest error of any output, on the rows and around the worst of them, relative to the largest output."""
    apart, largest = _apart(network, refits, rows)
    rng, count = np.random.default_rng(1), len(rows)
    for step in _STEPS:
        leaders = rows[np.argsort(-apart)[:_LEADERS]]
        near = np.repeat(leaders, max(1, count // (4 * _LEADERS)), axis=0)
        near += rng.normal(0, step * network[0].denominator, near.shape)
        further, _ = _apart(network, refits, near)
        rows, apart = np.concatenate([rows, near]), np.concatenate([apart, further])
    worst = float(apart.max())
    return worst / largest if largest else worst


def _apart(network: Sequence[Radial], refits: Sequence[Refit], rows: Array) -> tuple[Array, float]:
    """The difference between both networks on each row (R,), 0 if one overflows; and the largest output."""
    ours = theirs = rows
    with np.errstate(all="ignore"):
        for radial, splines in zip(network, refits, strict=True):
            for layer in radial.before:
                before, ours = ours, _nodes(layer, ours)
                theirs = ours if theirs is before else _nodes(layer, theirs)
            alike = theirs is ours  # in the first layer: computing its rest once saves most of the time
            rest = radial.others(ours)
            ours, theirs = (
                splines(radial.own(ours)) + rest,
                radial.gaussians(theirs) + (rest if alike else radial.others(theirs)),
            )
        apart = np.abs(ours - theirs).max(axis=1)
    sizes = np.abs(theirs[np.isfinite(theirs).all(axis=1)])
    return np.where(np.isfinite(apart), apart, 0.0), float(sizes.max(initial=0.0))


def _nodes(layer: Layer, v: Array) -> Array:
    result: Array = evaluate.nodes(layer, evaluate.subnodes(layer, evaluate.edges(layer, v)))
    return result
