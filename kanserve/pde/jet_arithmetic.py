"""The derivatives that a jet carries, and the arithmetic of jets.

A jet is an array (S, n, N) for n quantities at N points: slot 0 holds the values, then one slot for each direction,
then one for each pair of directions. `directions` are raw inputs; a pair names two positions among them, a ≤ b.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.network.kan import Kan
from kanserve.pde.unknown_function import Derivative

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slots:
    """The layout of a jet: the directions and pairs of its derivatives."""

    directions: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return 1 + len(self.directions) + len(self.pairs)

    @property
    def order(self) -> int:
        """The highest order of the derivatives."""
        return 2 if self.pairs else 1 if self.directions else 0

    @property
    def second(self) -> tuple[tuple[int, int, int], ...]:
        """For each pair, its slot and those of its two directions."""
        start = 1 + len(self.directions)
        return tuple((start + n, 1 + a, 1 + b) for n, (a, b) in enumerate(self.pairs))

    def of(self, derivative: Derivative) -> int:
        """The slot of a derivative. Raises DataError if the jet does not contain it."""
        match tuple(self.directions.index(i) if i in self.directions else -1 for i in derivative):
            case ():
                return 0
            case (a,) if a >= 0:
                return 1 + a
            case (a, b) if (a, b) in self.pairs:
                return 1 + len(self.directions) + self.pairs.index((a, b))
        raise DataError(
            f"A residual asks for the derivative by inputs {derivative}, which it did not ask for when it was first "
            "called. It must ask for the same derivatives each time, whatever their values are."
        )

    def numbers(self, kan: Kan) -> int:
        """How many numbers the passes through a network store per point."""
        edges = sum(layer.subnodes * layer.inputs for layer in kan.layers)
        nodes = sum(layer.subnodes + layer.inputs for layer in kan.layers)
        return (self.order + 2) * edges + self.count * nodes


def slots(derivatives: Iterable[Derivative]) -> Slots:
    """The slots for these derivatives; second derivatives need the first ones of their directions."""
    every = set(derivatives)
    directions = tuple(sorted({i for axes in every for i in axes}))
    pairs = sorted((directions.index(axes[0]), directions.index(axes[1])) for axes in every if len(axes) == 2)
    return Slots(directions, tuple(pairs))


def compose(which: Slots, phi: tuple[Array, ...], v: Array) -> Array:
    """Σ_i φ_oi(v_i) as a jet (S, O, N), from φ and its derivatives, (O, I, N) each, at the jets v (S, I, N)."""
    result = np.empty((which.count, len(phi[0]), v.shape[2]))
    result[0] = phi[0].sum(axis=1)
    for s in range(1, 1 + len(which.directions)):
        result[s] = _dot(phi[1], v[s])
    for s, a, b in which.second:
        result[s] = _dot(phi[2], v[a] * v[b]) + _dot(phi[1], v[s])
    return result


def _dot(phi: Array, v: Array) -> Array:
    result: Array = np.einsum("oin,in->on", phi, v)
    return result


def pull_back(which: Slots, bar: Array, v: Array) -> tuple[Array, ...]:
    """The factors (O, I, N) of ψ, ψ' and ψ'' in the functional Σ_s bar[s, o]·(ψ(v_i))_s. With ψ the derivative of an
    edge with respect to a parameter, they give a row of the Jacobian."""
    inputs = v.shape[1]
    result = [np.broadcast_to(bar[0][:, None], (bar.shape[1], inputs, bar.shape[2]))]
    if which.order >= 1:
        carried = (*range(1, 1 + len(which.directions)), *(s for s, _, _ in which.second))
        result.append(sum_of([bar[s][:, None] * v[s] for s in carried]))
    if which.order == 2:
        result.append(sum_of([bar[s][:, None] * (v[a] * v[b]) for s, a, b in which.second]))
    return tuple(result)


def adjoint(which: Slots, bar: Array, factors: tuple[Array, ...], phi: tuple[Array, ...], v: Array) -> Array:
    """Pull the functional `bar` (S, O, N) of the sums back to the jets v (S, I, N). φ has derivatives of one order more
    than carried; `factors` are those of `pull_back`."""
    result = np.empty_like(v)
    result[0] = sum_of(
        [np.einsum("oin,oin->in", factor, slope) for factor, slope in zip(factors, phi[1:], strict=True)]
    )
    for s in range(1, len(v)):
        result[s] = np.einsum("on,oin->in", bar[s], phi[1])
    for s, a, b in which.second:
        bent = np.einsum("on,oin->in", bar[s], phi[2])
        result[a] += bent * v[b]
        result[b] += bent * v[a]
    return result


def product(which: Slots, p: Array, q: Array) -> Array:
    """The jets of products, from the jets of the factors, (S, ..) each."""
    result: Array = p[0] * q
    result[1:] += p[1:] * q[0]
    for s, a, b in which.second:
        result[s] += p[a] * q[b] + p[b] * q[a]
    return result


def product_adjoint(which: Slots, bar: Array, q: Array) -> Array:
    """Pull a functional of a product's jet back to the jet of the factor that is not q."""
    result: Array = bar * q[0]
    result[0] = (bar * q).sum(axis=0)
    for s, a, b in which.second:
        result[a] += bar[s] * q[b]
        result[b] += bar[s] * q[a]
    return result


def sum_of(terms: list[Array]) -> Array:
    total = terms[0].copy() if len(terms) == 1 else terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total
