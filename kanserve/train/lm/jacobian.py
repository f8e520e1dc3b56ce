"""The least-squares problem of a network and rows: its loss, analytic Jacobian and normal equations. F(θ) = ½·Σ_n
w_n·‖r_n‖² with r = (prediction - y) / |output_scale| and weights that sum to 1. A subnode's adjoint times the basis
of its edges, kept from the forward pass, is a row of the transposed Jacobian; J'J is computed one block of rows at a
time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network import evaluate
from kanserve.network.encoding import encode
from kanserve.network.functions import FUNCTIONS, finite_slope
from kanserve.network.kan import Kan, Layer
from kanserve.train.lm import active_basis as bases
from kanserve.train.lm.parameter_vector import Free, Weights, free_parameters, weights

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ROWS = 4096  # at most in one block
MEMORY = 3e7  # numbers that may be kept between the loss and the Jacobian


@dataclass(frozen=True, eq=False)
class Pass:
    """What the forward pass of a layer stores for the Jacobian; the last axis of each array is rows."""

    v: Array  # (I, N)
    active: bases.Active | None
    splines: Array | None  # (I, G+k, N)
    base: Array | None  # (I, N)
    named: tuple[Array, ...]  # f(a·v + b) of each symbolic edge
    z: Array  # (O, N)


@dataclass(frozen=True, eq=False)
class Part:
    """One layer of the problem, and where its parameters start in the vector."""

    layer: Layer
    basis: bases.ActiveBasis | None
    free: Free
    start: int
    symbolic: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Block:
    """A block of rows: inputs (I, N), targets and square roots of the weights (Q, N)."""

    v: Array
    wanted: Array
    weight: Array
    first: Pass | None  # the first layer's basis values, which never change


@dataclass(frozen=True, eq=False)
class LeastSquaresProblem:
    """A network, its rows and its free parameters."""

    kan: Kan
    free: tuple[Free, ...]
    parts: tuple[Part, ...]
    blocks: tuple[Block, ...]
    sign: Array  # (Q,): of the output scales; 0 where an output is constant by its scale
    keep: bool
    """Whether there is memory for all forward passes at once."""

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.free)

    def weights(self, vector: Array) -> tuple[Weights, ...]:
        return weights(self.kan, self.free, vector)

    def loss(self, vector: Array) -> tuple[float, "State"]:
        return loss(self, vector)

    def normal_equations(self, vector: Array, state: "State") -> tuple[Array, Array]:
        return normal_equations(self, vector, state)


def problem(
    kan: Kan, x: Array, y: Array, row_weights: Array | None = None, free: tuple[Free, ...] | None = None
) -> LeastSquaresProblem:
    """Set up the problem for features x (N, inputs) and targets y (N, outputs). By default all is free that can be."""
    free = free_parameters(kan) if free is None else free
    starts = np.cumsum([0, *(layer.size for layer in free)])
    parts = tuple(
        Part(
            layer,
            bases.active_basis(layer) if layer.spline_mask.any() else None,
            free_layer,
            int(start),
            tuple((int(j), int(i)) for j, i in np.argwhere(layer.symbolic_mask)),
        )
        for layer, free_layer, start in zip(kan.layers, free, starts, strict=False)
    )
    share = np.full(len(x), 1 / len(x)) if row_weights is None else row_weights / row_weights.sum()
    scale = np.where(kan.output_scale == 0, 1.0, np.abs(kan.output_scale))
    sign = np.sign(kan.output_scale)
    with np.errstate(all="ignore"):
        v = np.ascontiguousarray(((encode(kan, x) - kan.input_shift) / kan.input_scale).T)
        wanted = np.ascontiguousarray(((y - kan.output_shift) / scale).T) * sign[:, None]
    numbers = len(x) * sum(layer.inputs * layer.coefficients.shape[2] for layer in kan.layers)
    keep = numbers <= MEMORY
    blocks = []
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        own = np.ascontiguousarray(v[:, rows])
        roots = np.tile(np.sqrt(share[rows]), (len(wanted), 1))
        blocks.append(Block(own, wanted[:, rows], roots, _bases(parts[0], own) if keep else None))
    return LeastSquaresProblem(kan, free, parts, tuple(blocks), sign, keep)


def _bases(part: Part, v: Array) -> Pass:
    """The part of a forward pass that does not depend on the weights: basis functions and base function."""
    active = splines = base = None
    if part.basis is not None:
        active = bases.locate(part.basis, v)
        splines = bases.values(part.basis, active)
        base = None if part.layer.base == "zero" else evaluate.base(part.layer, v)
    return Pass(v, active, splines, base, (), np.empty(0))


def _layer_pass(part: Part, own: Weights, ready: Pass) -> Pass:
    layer, v = part.layer, ready.v
    total = np.zeros((layer.subnodes, v.shape[1]))
    if ready.splines is not None:
        total += own.coefficients.reshape(layer.subnodes, -1) @ ready.splines.reshape(-1, v.shape[1])
    if ready.base is not None:
        total += own.base_weight @ ready.base
    named = []
    for j, i in part.symbolic:
        a, b, c, d = own.affine[j, i]
        named.append(FUNCTIONS[str(layer.functions[j, i])].numpy(a * v[i] + b))
        total[j] += c * named[-1] + d
    z = layer.subnode_scale[:, None] * total + layer.subnode_bias[:, None]
    return Pass(v, ready.active, ready.splines, ready.base, tuple(named), z)


def _nodes(layer: Layer, own: Weights, z: Array) -> Array:
    products = z if layer.nodes == layer.subnodes else np.multiply.reduceat(z, np.cumsum(layer.arity) - layer.arity)
    result: Array = layer.node_scale[:, None] * products + own.node_bias[:, None]
    return result


def _forward(
    least_squares_problem: LeastSquaresProblem, block: Block, every: tuple[Weights, ...]
) -> tuple[list[Pass], Array]:
    """The forward passes of all layers, and the weighted residuals (Q, N)."""
    passes = []
    v = block.v
    for part, own in zip(least_squares_problem.parts, every, strict=True):
        ready = block.first if v is block.v and block.first is not None else _bases(part, v)
        passes.append(_layer_pass(part, own, ready))
        v = _nodes(part.layer, own, passes[-1].z)
        if not np.isfinite(v.sum()):  # such a row has no finite output, whatever the later layers do
            return passes, np.full((len(least_squares_problem.sign), v.shape[1]), np.nan)
    return passes, (np.abs(least_squares_problem.sign)[:, None] * v - block.wanted) * block.weight


State = list[tuple[list[Pass], Array]]


def loss(least_squares_problem: LeastSquaresProblem, vector: Array) -> tuple[float, State]:
    """½·Σ w‖r‖², infinite if the network is not finite, and the state that `normal_equations` needs."""
    every = least_squares_problem.weights(vector)
    total = 0.0
    state: State = []
    with np.errstate(all="ignore"):
        for block in least_squares_problem.blocks:
            passes, residuals = _forward(least_squares_problem, block, every)
            total += 0.5 * float(np.vdot(residuals, residuals))
            if not np.isfinite(total):
                return np.inf, []
            if least_squares_problem.keep:
                state.append((passes, residuals))
    return total, state


def scores(least_squares_problem: LeastSquaresProblem, vector: Array) -> Array:
    """The scaled outputs (N, Q), for a problem with targets 0 and weights 1; NaN if the network is not finite."""
    every = least_squares_problem.weights(vector)
    with np.errstate(all="ignore"):
        return np.concatenate(
            [_forward(least_squares_problem, block, every)[1] for block in least_squares_problem.blocks], axis=1
        ).T


def normal_equations(least_squares_problem: LeastSquaresProblem, vector: Array, state: State) -> tuple[Array, Array]:
    """J'J (P, P) and J'r (P,) at the vector for which `loss` returned `state`."""
    every = least_squares_problem.weights(vector)
    matrix = np.zeros((least_squares_problem.size, least_squares_problem.size))
    gradient = np.zeros(least_squares_problem.size)
    with np.errstate(all="ignore"):
        for n, block in enumerate(least_squares_problem.blocks):
            passes, residuals = state[n] if state else _forward(least_squares_problem, block, every)
            for rows, columns, residual in _jacobians(least_squares_problem, block, every, passes, residuals):
                product = rows @ rows.T
                if len(columns) == least_squares_problem.size:
                    matrix += product
                    gradient += rows @ residual
                else:
                    matrix[np.ix_(columns, columns)] += product
                    gradient[columns] += rows @ residual
    return matrix, gradient


def jacobian(least_squares_problem: LeastSquaresProblem, vector: Array) -> Array:
    """The Jacobian dr/dθ (rows · outputs, P) of all weighted residuals."""
    return linearise(least_squares_problem, vector)[0]


def linearise(least_squares_problem: LeastSquaresProblem, vector: Array) -> tuple[Array, Array]:
    """The Jacobian (rows · outputs, P) and the residuals (rows · outputs,)."""
    every = least_squares_problem.weights(vector)
    result, found = [], []
    with np.errstate(all="ignore"):
        for block in least_squares_problem.blocks:
            passes, residuals = _forward(least_squares_problem, block, every)
            of_block = np.zeros((residuals.shape[1], len(least_squares_problem.sign), least_squares_problem.size))
            for q, (rows, columns, _) in enumerate(_jacobians(least_squares_problem, block, every, passes, residuals)):
                of_block[:, q, columns] = rows.T
            result.append(of_block.reshape(-1, least_squares_problem.size))
            found.append(residuals.T.ravel())
    return np.concatenate(result), np.concatenate(found)


def _jacobians(
    least_squares_problem: LeastSquaresProblem,
    block: Block,
    every: tuple[Weights, ...],
    passes: list[Pass],
    residuals: Array,
) -> Iterator[tuple[Array, Indices, Array]]:
    """Yield for each output the transposed Jacobian (p, N), the positions of its parameters, and residuals (N,)."""
    slopes = [
        None,
        *(
            _slopes(*arguments)
            for arguments in zip(least_squares_problem.parts[1:], every[1:], passes[1:], strict=True)
        ),
    ]
    final = least_squares_problem.parts[-1]
    for q, group in enumerate(final.layer.groups):
        free, places = final.free.of_subnodes(group, q) if final.layer.nodes > 1 else (final.free, None)
        earlier = final.start
        rows = np.empty((earlier + free.size, residuals.shape[1]))
        nodes = np.zeros((final.layer.nodes, residuals.shape[1]))
        nodes[q] = np.abs(least_squares_problem.sign[q]) * block.weight[q]
        subnodes = _subnode_adjoint(final.layer, passes[-1].z, nodes)
        _fill(rows[earlier:], final, free, every[-1], passes[-1], nodes, subnodes)
        for index in range(len(least_squares_problem.parts) - 2, -1, -1):
            slope = slopes[index + 1]
            assert slope is not None
            nodes = np.einsum("on,ion->in", subnodes, slope)
            part = least_squares_problem.parts[index]
            subnodes = _subnode_adjoint(part.layer, passes[index].z, nodes)
            own = rows[part.start : part.start + part.free.size]
            _fill(own, part, part.free, every[index], passes[index], nodes, subnodes)
        columns = np.arange(len(rows)) if places is None else np.append(np.arange(earlier), earlier + places)
        yield rows, columns, residuals[q]


def _slopes(part: Part, own: Weights, done: Pass) -> Array:
    """The derivative of every edge with respect to its input (I, O, N)."""
    layer, v = part.layer, done.v
    if part.basis is not None and done.active is not None:
        total = own.coefficients.transpose(1, 0, 2) @ bases.slopes(part.basis, done.active)
        if layer.base != "zero":
            total += own.base_weight.T[:, :, None] * evaluate.base(layer, v, derivative=1)[:, None]
    else:
        total = np.zeros((layer.inputs, layer.subnodes, v.shape[1]))
    for j, i in part.symbolic:
        a, b, c, _ = own.affine[j, i]
        total[i, j] += a * c * finite_slope(str(layer.functions[j, i]), a * v[i] + b)
    return total


def _subnode_adjoint(layer: Layer, z: Array, nodes: Array) -> Array:
    """Backpropagate through the nodes: d/d(sum of edges) (O, N) from d/d(node) (Q, N)."""
    scaled = layer.node_scale[:, None] * nodes
    if layer.nodes < layer.subnodes:
        others = np.ones_like(z)
        for group in layer.groups:
            for j in group:
                for factor in group:
                    if factor != j:
                        others[j] *= z[factor]
        scaled = np.repeat(scaled, layer.arity, axis=0) * others
    result: Array = layer.subnode_scale[:, None] * scaled
    return result


def _fill(rows: Array, part: Part, free: Free, own: Weights, done: Pass, nodes: Array, subnodes: Array) -> None:
    """Write the derivatives by a layer's free parameters into `rows` (p, N), from d/d(node) and d/d(sum of edges)."""
    at = 0
    if done.splines is not None:
        for j, i in free.edges.tolist():
            np.multiply(subnodes[j], done.splines[i], out=rows[at : at + free.functions])
            at += free.functions
    if done.base is not None and len(free.base):
        j, i = free.base.T
        np.multiply(subnodes[j], done.base[i], out=rows[at : at + len(j)])
        at += len(j)
    for j, i, slot in free.affine.tolist():
        rows[at] = subnodes[j] * _affine_derivative(part, own, done, j, i, slot)
        at += 1
    rows[at:] = nodes[free.bias]


def _affine_derivative(part: Part, own: Weights, done: Pass, j: int, i: int, slot: int) -> Array | float:
    """The derivative of c·f(a·v + b) + d with respect to a, b, c or d (slot 0 to 3)."""
    if slot == 3:
        return 1.0
    if slot == 2:
        return done.named[part.symbolic.index((j, i))]
    a, b, c, _ = own.affine[j, i]
    inner: Array = c * finite_slope(str(part.layer.functions[j, i]), a * done.v[i] + b)
    return inner * done.v[i] if slot == 0 else inner
