"""The least-squares problem of PDE residuals: its loss and normal equations."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve import native
from kanserve.network.kan import Kan
from kanserve.pde import normal_equations as normal_equations_c
from kanserve.pde.jet_arithmetic import Slots, slots
from kanserve.pde.jet_propagation import Part, Pass, Row, backward, dense, forward, input_jet, parts
from kanserve.pde.normal_equations import Plan
from kanserve.pde.residuals import Linearised, Residual, find_derivatives, linearise
from kanserve.pde.unknown_function import Derivative, Seed
from kanserve.train.lm.parameter_vector import Free, Weights, free_parameters, weights

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

ROWS = 2048  # at most in one block
BLOCK = 2e6  # numbers at most of one derivative of a layer's edges in a block
MEMORY = 3e7  # numbers that may be kept between the loss and the Jacobian


@dataclass(frozen=True, eq=False)
class Term:
    """One residual of the problem, at its chosen points."""

    residual: Residual
    which: Slots
    chosen: Indices  # (n,), the chosen ones of its N points
    blocks: tuple[Array, ...]  # jets (S, I, ·) of the inputs at the n points
    root: Array  # (n,), square roots of the weights, which multiply its values


@dataclass(frozen=True, eq=False)
class Done:
    """What the loss stores of a term for its Jacobian; no passes if they would take too much memory."""

    passes: tuple[list[Pass], ...]
    linear: Linearised


State = list[Done]


@dataclass(frozen=True, eq=False)
class ResidualProblem:
    """The loss ½·Σ_k mean(weight_k·residual_k²) as a function of a vector of parameters."""

    kan: Kan
    free: tuple[Free, ...]
    parts: tuple[Part, ...]
    terms: tuple[Term, ...]
    plan: Plan
    keep: bool

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.free)

    @property
    def rows(self) -> int:
        """The number of points of all terms."""
        return sum(len(term.chosen) for term in self.terms)

    def loss(self, vector: Array) -> tuple[float, State]:
        """The loss, infinite if the network or a residual is not finite, and the state for `normal_equations`."""
        own = weights(self.kan, self.free, vector)
        total = 0.0
        state: State = []
        with np.errstate(all="ignore"):
            for term in self.terms:
                state.append(self._linearise(term, own))
                total += 0.5 * float(((state[-1].linear.values * term.root) ** 2).sum())
                if not np.isfinite(total):
                    return np.inf, []
        return total, state

    def values(self, vector: Array) -> tuple[Array, ...]:
        """The values (E, n) of each residual, without weights."""
        own = weights(self.kan, self.free, vector)
        with np.errstate(all="ignore"):
            return tuple(self._linearise(term, own).linear.values for term in self.terms)

    def normal_equations(self, vector: Array, state: State) -> tuple[Array, Array]:
        """J'J (P, P) and J'r (P,) at the vector for which `loss` returned `state`."""
        library = native.library()
        if library is not None:
            sums = normal_equations_c.empty(self.plan)
            for row, residual in self._rows(vector, state):
                normal_equations_c.add(library, self.plan, self.parts, row, residual, sums)
            return normal_equations_c.finish(self.plan, sums)
        matrix = np.zeros((self.size, self.size))
        gradient = np.zeros(self.size)
        for row, residual in self._rows(vector, state):
            rows = dense(self.parts, row)
            matrix += rows @ rows.T
            gradient += rows @ residual
        return matrix, gradient

    def jacobian(self, vector: Array) -> tuple[Array, Array]:
        """The Jacobian of the weighted residuals (equations · points, P) and the residuals, blockwise; for tests."""
        every = [(dense(self.parts, row).T, residual) for row, residual in self._rows(vector, self.loss(vector)[1])]
        return np.concatenate([block[0] for block in every]), np.concatenate([block[1] for block in every])

    def _rows(self, vector: Array, state: State) -> Iterator[tuple[Row, Array]]:
        """The rows of the Jacobian and the residuals (·,), for each block and equation."""
        own = weights(self.kan, self.free, vector)
        with np.errstate(all="ignore"):
            for term, done in zip(self.terms, state, strict=True):
                start = 0
                for n, block in enumerate(term.blocks):
                    passes = done.passes[n] if self.keep else forward(term.which, self.parts, own, block)[0]
                    part = slice(start, start + block.shape[2])
                    start = part.stop
                    for values, slopes in zip(done.linear.values, done.linear.slopes, strict=True):
                        row = backward(term.which, self.parts, own, passes, self._functional(term, slopes, part))
                        yield row, values[part] * term.root[part]

    def _functional(self, term: Term, slopes: dict[Seed, Array], part: slice) -> Array:
        """An equation's weighted derivatives (S, Q, ·) with respect to the jets of the last nodes."""
        bar = np.zeros((term.which.count, len(self.kan.outputs), part.stop - part.start))
        for (q, derivative), slope in slopes.items():
            bar[term.which.of(derivative), q] = self.kan.output_scale[q] * slope[part] * term.root[part]
        return bar

    def _linearise(self, term: Term, own: tuple[Weights, ...]) -> Done:
        every = [forward(term.which, self.parts, own, block) for block in term.blocks]
        jets = np.concatenate([v for _, v in every], axis=2) * self.kan.output_scale[:, None]
        jets[0] += self.kan.output_shift[:, None]
        count = len(np.asarray(term.residual.points))

        def read(q: int, derivative: Derivative) -> Array:
            values: Array = jets[term.which.of(derivative), q]
            if len(term.chosen) == count:
                return values
            # A residual may use an array with one entry per point, so it is always called at all of them.
            full = np.full(count, np.nan)
            full[term.chosen] = values
            return full

        linear = linearise(term.residual, len(self.kan.outputs), names_of(self.kan), read)
        if len(term.chosen) < count:
            linear = linear.at(term.chosen)
        return Done(tuple(passes for passes, _ in every) if self.keep else (), linear)


def problem(kan: Kan, residuals: tuple[Residual, ...], most: int | None = None, seed: int = 0) -> ResidualProblem:
    """The problem of these residuals, each at all of its points, or at a random sample of `most` of them."""
    free = free_parameters(kan)
    terms = [_term(kan, residual, most, seed) for residual in residuals]
    numbers = sum(len(term.chosen) * term.which.numbers(kan) for term in terms)
    every = parts(kan, free)
    return ResidualProblem(kan, free, every, tuple(terms), normal_equations_c.plan(every), numbers <= MEMORY)


def _term(kan: Kan, residual: Residual, most: int | None, seed: int) -> Term:
    which = slots(find_derivatives(residual, len(kan.outputs), names_of(kan)))
    points = np.asarray(residual.points)
    chosen = np.arange(len(points))
    if most is not None and most < len(points):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:most])
    inside = points[chosen]
    edges = max(layer.subnodes * layer.inputs for layer in kan.layers)
    rows = max(min(ROWS, int(BLOCK / edges)), 1)
    blocks = tuple(input_jet(kan, which, inside[at : at + rows]) for at in range(0, len(inside), rows))
    weight = np.broadcast_to(np.asarray(residual.weight), len(points))[chosen]
    return Term(residual, which, chosen, blocks, np.sqrt(weight / len(chosen)))


def names_of(kan: Kan) -> tuple[str, ...]:
    return tuple(variable.name for variable in kan.inputs)
