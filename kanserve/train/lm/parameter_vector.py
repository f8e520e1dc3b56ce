"""The free parameters of a network, and how they make one vector.

Pruned edges stay pruned, and a base weight of exactly 0 beside coefficients stays 0. Of redundant parameters only one
is free:

- f(a·x + b) of a power, a root, a logarithm or |x| needs b but not a, an exponential a but not b, a line neither.
- A subnode has one constant: its splines contain it; without splines it is the d of its first named edge; an output
  without edges has its node bias. An output that is a product has its node bias as well.
- An identity edge that only carries a value to the next layer stays as it is: the edges that take it can change it.

Scales of nodes stay as they are: the edges contain them.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Kan, Layer
from kanserve.network.powers import exponent_of
from kanserve.network.splines import span

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def inner_parameters(name: str) -> tuple[int, ...]:
    """Which of a (0) and b (1) change c·f(a·x + b) + d in a way that c and d cannot; the others are redundant."""
    if name in ("x", "sign"):
        return ()
    if name == "exp":
        return (0,)
    return (1,) if name in ("log", "abs") or exponent_of(name) is not None else (0, 1)


@dataclass(frozen=True, eq=False)
class Free:
    """The free parameters of one layer, in the order of the vector."""

    edges: Indices  # (E, 2): j, i of the splines, G + k coefficients each
    base: Indices  # (F, 2): j, i of the base weights
    affine: Indices  # (S, 3): j, i and which of a, b, c, d
    bias: Indices  # (B,): nodes
    functions: int  # G + k

    @property
    def size(self) -> int:
        return len(self.edges) * self.functions + len(self.base) + len(self.affine) + len(self.bias)

    @property
    def splines(self) -> int:
        """The number of spline coefficients among the parameters; they come first."""
        return len(self.edges) * self.functions

    def of_subnodes(self, subnodes: range, node: int) -> tuple["Free", Indices]:
        """The parameters of these subnodes, which form `node`, and their positions among the layer's parameters."""
        inside = [np.isin(rows[:, 0], subnodes) for rows in (self.edges, self.base, self.affine)]
        inside.append(self.bias == node)
        mask = np.concatenate([np.repeat(inside[0], self.functions), *inside[1:]])
        part = Free(
            self.edges[inside[0]], self.base[inside[1]], self.affine[inside[2]], self.bias[inside[3]], self.functions
        )
        return part, np.flatnonzero(mask)


@dataclass
class Weights:
    """Writable copies of the arrays of a layer that a fit changes."""

    coefficients: Array
    base_weight: Array
    affine: Array
    node_bias: Array


Constant = tuple[int, int, int, int]
"""Layer, subnode, input, and which of a, b, c, d of that named edge."""


def free_parameters(kan: Kan, fixed: frozenset[Constant] = frozenset()) -> tuple[Free, ...]:
    """The free parameters of each layer without those in `fixed`; none for layers that the outputs do not depend on. If
    an edge's d is fixed, its subnode has no free constant."""
    used = np.ones(len(kan.outputs), bool)
    found = []
    for index, layer in reversed(list(enumerate(kan.layers))):
        listens = np.repeat(used, layer.arity)
        own = {constant[1:] for constant in fixed if constant[0] == index}
        found.append(_free(layer, listens, own, last=index == len(kan.layers) - 1))
        used = (layer.alive & listens[:, None]).any(axis=0)
    return tuple(reversed(found))


def _free(layer: Layer, listens: NDArray[np.bool_], fixed: set[tuple[int, int, int]], last: bool) -> Free:
    splines = layer.spline_mask & listens[:, None]
    symbolic = layer.symbolic_mask & listens[:, None]
    if not last:
        symbolic &= ~carriers(layer)[:, None]
    constant = {j for j, _, slot in fixed if slot == 3}
    based = splines & (layer.base_weight != 0) & (layer.base != "zero")
    affine = []
    has_constant: NDArray[np.bool_] = np.array(splines.any(axis=1))
    for j, i in np.argwhere(symbolic):
        slots = [*inner_parameters(str(layer.functions[j, i])), 2]
        if not has_constant[j] and j not in constant:
            slots.append(3)
            has_constant[j] = True
        affine += [(j, i, slot) for slot in slots if (j, i, slot) not in fixed]
    bias = []
    for q, group in enumerate(layer.groups):
        alone = len(group) == 1
        if last and not (alone and (has_constant[group.start] or group.start in constant)):
            bias.append(q)
    return Free(
        np.argwhere(splines),
        np.argwhere(based),
        np.array(affine, np.intp).reshape(-1, 3),
        np.array(bias, np.intp),
        layer.coefficients.shape[2],
    )


def carriers(layer: Layer) -> NDArray[np.bool_]:
    """Mask (O,) of the subnodes that only pass a value of the previous layer on unchanged."""
    identity = (layer.functions == "x") & (layer.affine == (1.0, 0.0, 1.0, 0.0)).all(axis=2) & ~layer.spline_mask
    plain = (layer.node_scale == 1) & (layer.node_bias == 0) & (layer.arity == 1)
    neutral = (layer.subnode_scale == 1) & (layer.subnode_bias == 0) & (layer.alive.sum(axis=1) == 1)
    found: NDArray[np.bool_] = identity.any(axis=1) & neutral & np.repeat(plain, layer.arity)
    return found


def gather(kan: Kan, free: tuple[Free, ...]) -> Array:
    """Collect the free parameters into one vector."""
    parts = []
    for layer, free_layer in zip(kan.layers, free, strict=True):
        parts.append(layer.coefficients[tuple(free_layer.edges.T)].ravel())
        parts.append(layer.base_weight[tuple(free_layer.base.T)])
        parts.append(layer.affine[tuple(free_layer.affine.T)])
        parts.append(layer.node_bias[free_layer.bias])
    return np.concatenate(parts)


def weights(kan: Kan, free: tuple[Free, ...], vector: Array) -> tuple[Weights, ...]:
    """The weights of each layer, with the free parameters taken from the vector."""
    result = []
    start = 0
    for layer, free_layer in zip(kan.layers, free, strict=True):
        own = Weights(layer.coefficients.copy(), layer.base_weight.copy(), layer.affine.copy(), layer.node_bias.copy())
        stops = np.cumsum(
            [start, free_layer.splines, len(free_layer.base), len(free_layer.affine), len(free_layer.bias)]
        )
        own.coefficients[tuple(free_layer.edges.T)] = vector[stops[0] : stops[1]].reshape(-1, free_layer.functions)
        own.base_weight[tuple(free_layer.base.T)] = vector[stops[1] : stops[2]]
        own.affine[tuple(free_layer.affine.T)] = vector[stops[2] : stops[3]]
        own.node_bias[free_layer.bias] = vector[stops[3] : stops[4]]
        start = int(stops[4])
        result.append(own)
    return tuple(result)


def scatter(kan: Kan, free: tuple[Free, ...], vector: Array) -> Kan:
    """Write the vector back into the network."""
    layers = [
        replace(
            layer,
            coefficients=own.coefficients,
            base_weight=own.base_weight,
            affine=own.affine,
            node_bias=own.node_bias,
        )
        for layer, own in zip(kan.layers, weights(kan, free, vector), strict=True)
    ]
    return replace(kan, layers=tuple(layers))


@dataclass(frozen=True, eq=False)
class Bend:
    """The smoothness penalty ½·c'·matrix·c of one spline, where c = vector[start : start + G+k]."""

    layer: int
    j: int
    i: int
    start: int
    matrix: Array  # (G+k, G+k), with up to four diagonals on either side of the main one


@dataclass(frozen=True, eq=False)
class Penalty:
    """The penalty ½·Σ ridge·θ² + ½·proximal·‖θ - center‖² + the smoothness penalties of the splines."""

    ridge: Array  # (P,)
    proximal: float
    center: Array  # (P,)
    bends: tuple[Bend, ...]

    def value(self, vector: Array) -> float:
        with np.errstate(all="ignore"):  # a step that overflows is not taken
            moved = vector - self.center
            total = float(self.ridge @ vector**2) + self.proximal * float(moved @ moved)
            for bend in self.bends:
                own = vector[bend.start : bend.start + len(bend.matrix)]
                total += float(own @ bend.matrix @ own)
        return 0.5 * total

    def slope(self, vector: Array) -> Array:
        """The gradient of the penalty at a parameter vector."""
        result: Array = self.ridge * vector + self.proximal * (vector - self.center)
        for bend in self.bends:
            own = slice(bend.start, bend.start + len(bend.matrix))
            result[own] += bend.matrix @ vector[own]
        return result

    def diagonal(self) -> Array:
        """The diagonal of the Hessian."""
        result: Array = self.ridge + self.proximal
        for bend in self.bends:
            result[bend.start : bend.start + len(bend.matrix)] += bend.matrix.diagonal()
        return result

    def solve(self, added: Array, right: Array) -> Array:
        """Solve (Hessian + diag(added))·x = right, for right (P, n)."""
        diagonal = self.ridge + self.proximal + added
        result: Array = right / diagonal[:, None]
        for bend in self.bends:
            own = slice(bend.start, bend.start + len(bend.matrix))
            result[own] = np.linalg.solve(bend.matrix + np.diag(diagonal[own]), right[own])
        return result

    def add_to(self, matrix: Array, gradient: Array, vector: Array) -> None:
        """Add the Hessian to a matrix (P, P), and the gradient at `vector` to a gradient (P,)."""
        matrix.flat[:: len(gradient) + 1] += self.ridge + self.proximal
        gradient += self.slope(vector)
        for bend in self.bends:
            own = slice(bend.start, bend.start + len(bend.matrix))
            matrix[own, own] += bend.matrix


def penalty(
    kan: Kan, free: tuple[Free, ...], ridge: float, smooth: float, proximal: float = 0.0, jumps: float = 0.0
) -> Penalty:
    """The penalty of a fit that starts at `kan`. The ridge applies to coefficients and base weights only."""
    strengths = np.zeros(sum(layer.size for layer in free))
    bends = []
    start = 0
    for index, (layer, free_layer) in enumerate(zip(kan.layers, free, strict=True)):
        strengths[start : start + free_layer.splines + len(free_layer.base)] = ridge
        if smooth > 0 or jumps > 0:
            kinks = jumps * jumping(layer)
            matrices = [(smooth * bending(layer, i) if smooth > 0 else 0.0) + kinks for i in range(layer.inputs)]
            for e, (j, i) in enumerate(free_layer.edges.tolist()):
                bends.append(Bend(index, j, i, start + e * free_layer.functions, matrices[i]))
        start += free_layer.size
    return Penalty(strengths, proximal, gather(kan, free), tuple(bends))


def bending(layer: Layer, i: int) -> Array:
    """The matrix D'D (G+k, G+k) of second differences of coefficients for input i. On a uniform grid they are c[m+1] -
    2·c[m] + c[m-1]; on others, differences of slopes between Greville abscissae (0 for a straight line), times a length
    between the smaller step and the mean step: the mean would make crowded splines too stiff, the smaller too loose."""
    k = layer.order
    knots = layer.knots[i]
    count = len(knots) - k - 1
    places = np.convolve(knots[1:-1], np.full(k, 1 / k), mode="valid")
    low, high = span(knots, k)
    mean = (high - low) / (count - k)
    steps = np.maximum(np.diff(places), 1e-3 * mean)
    slopes = np.diff(np.eye(count), axis=0) / steps[:, None]
    lengths = np.sqrt(mean * np.minimum(steps[1:], steps[:-1]))
    second = lengths[:, None] * np.diff(slopes, axis=0)
    result: Array = second.T @ second
    return result


def jumping(layer: Layer) -> Array:
    """The matrix D'D (G+k, G+k) of the coefficients' differences of order k + 1, at most 4. On a uniform grid they are
    the jumps of the k-th derivative at the knots, 0 for a polynomial."""
    jumps = np.diff(np.eye(layer.coefficients.shape[2]), min(layer.order + 1, 4), axis=0)
    result: Array = jumps.T @ jumps
    return result


def parameters(kan: Kan) -> int:
    """The number of free parameters."""
    return sum(parameter.size for parameter in free_parameters(kan))
