"""Possible replacements of a spline: named functions, functions of functions, and variants that a product allows. A
spline is determined only up to changes that the rest of the network can undo: f(a) + g(a)·h(b) equals f(a) - k·g(a) +
g(a)·(h(b) + k), and under a curve the factors of a product are determined up to a power. So candidates match the spline
before or after such a change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve.simplification.composites import Composite, composites
from kanserve.simplification.edge_candidates import (
    EDGE_CANDIDATES_COMPLEXITY_WEIGHT,
    EDGE_CANDIDATES_OFFSET_COMPLEXITY,
    Array,
    Samples,
    candidates,
)
from kanserve.simplification.insert_composite import with_inner
from kanserve.simplification.product_powers import as_factor, may_take_powers, power_of, with_power
from kanserve.simplification.symbolic_edges import name_edges
from kanserve.train.lm.parameter_vector import Constant


@dataclass(frozen=True, eq=False)
class Named:
    """A network, and the constants of its named edges that fits must not change."""

    kan: Kan
    fixed: frozenset[Constant] = frozenset()


@dataclass(frozen=True)
class Offer:
    """A named function for an edge, possibly of inner functions, with its error in units of the outputs and rank."""

    place: EdgeIndex
    symbolic: Symbolic
    error: float
    rank: float
    inner: tuple[Symbolic, ...] = ()
    held: tuple[int, ...] = ()
    """Which of a, b, c, d of the edge stay fixed."""
    inner_held: tuple[tuple[int, ...], ...] = ()
    changed: Kan | None = field(default=None, repr=False, compare=False)
    """The network with the offer applied, if other splines change with it."""

    @property
    def plain(self) -> bool:
        """Whether it is a single named function that changes nothing else."""
        return not self.inner and self.changed is None


@dataclass(frozen=True)
class Role:
    """An edge and its role in the network."""

    place: EdgeIndex
    alone: bool = False
    """Whether it is a factor of a product on its own."""
    traded: bool = False
    """Whether that factor's constant could belong to another term, in the inputs of the other factors."""
    level: float = 0.0
    """The d at which its sum has no constant, apart from those of splines."""
    rates: tuple[float, ...] = ()
    """If its input is a sum of logarithms, the rates r at which e^(r·z) is a simple power of one of them."""


def offers(place: EdgeIndex, samples: Samples, floor: float, library: Sequence[str]) -> tuple[Offer, ...]:
    """Single named functions for an edge, best first."""
    return tuple(
        Offer(place, candidate.symbolic, candidate.error, candidate.rank)
        for candidate in candidates(samples, floor, library)
    )


def further_offers(
    kan: Kan,
    role: Role,
    samples: Samples,
    plain: Sequence[Offer],
    values: Sequence[Array],
    floor: float,
    library: Sequence[str],
) -> tuple[Offer, ...]:
    """All replacements for an edge, with the functions `plain`, best first; `values` are the layers' inputs (N, I)."""
    place = role.place
    found = [] if role.traded else list(plain)
    if role.alone:
        found += [_drop(offer, role.level, samples.natural) for offer in plain]
    composed = composites(samples, floor, library, level=role.level, rates=role.rates)
    found += [_of_two(place, composite, role.traded) for composite in composed]
    found += _powers(kan, place, samples, values, floor)
    return tuple(sorted(found, key=lambda offer: offer.rank))


def put_in(net: Named, offer: Offer) -> Named:
    """Apply the offer to its edge."""
    if not offer.inner:
        kan = name_edges(net.kan, {offer.place: offer.symbolic}) if offer.changed is None else offer.changed
        return Named(kan, net.fixed | {(*offer.place, slot) for slot in offer.held})
    kan, place, inserted = with_inner(net.kan, offer.place, offer.symbolic, offer.inner)
    fixed = {(n + (inserted and n >= offer.place[0]), j, i, slot) for n, j, i, slot in net.fixed}
    fixed |= {(*place, slot) for slot in offer.held}
    before = kan.layers[place[0] - 1]
    for j, slots in zip(before.groups[place[2]], offer.inner_held, strict=True):
        i = int(np.flatnonzero(before.alive[j])[0])
        fixed |= {(place[0] - 1, j, i, slot) for slot in slots}
    return Named(kan, frozenset(fixed))


def _drop(offer: Offer, level: float, natural: float) -> Offer:
    """Leave the constant of an offer to another term; a straight line becomes the input itself."""
    symbolic = replace(offer.symbolic, d=level, b=-natural if offer.symbolic.function == "x" else offer.symbolic.b)
    return replace(
        offer,
        symbolic=symbolic,
        held=(3,),
        rank=offer.rank - EDGE_CANDIDATES_COMPLEXITY_WEIGHT * EDGE_CANDIDATES_OFFSET_COMPLEXITY,
    )


def _of_two(place: EdgeIndex, composite: Composite, traded: bool) -> Offer:
    held = (*composite.held, 3) if traded else composite.held
    return Offer(place, composite.outer, composite.error, composite.rank, composite.inner, held, composite.inner_held)


def _powers(kan: Kan, place: EdgeIndex, samples: Samples, values: Sequence[Array], floor: float) -> Iterator[Offer]:
    """Offer the input itself as a factor, if the factor is a power of it."""
    if not may_take_powers(kan, place) or (power := power_of(as_factor(kan, place, samples))) is None:
        return
    k, p, error = power
    changed = with_power(kan, place, samples, k, p, values)
    if changed is not None:
        depth, j, i = place
        symbolic = changed.layers[depth].edge(j, i)
        assert isinstance(symbolic, Symbolic)
        rank = float(np.log10(error + floor)) + EDGE_CANDIDATES_COMPLEXITY_WEIGHT * FUNCTIONS["x"].complexity
        yield Offer(place, symbolic, error, rank, held=(3,), changed=changed)


@np.errstate(all="ignore")
def roles(kan: Kan) -> Mapping[EdgeIndex, Role]:
    found = {}
    for depth, layer in enumerate(kan.layers):
        alive = layer.alive
        for q, group in enumerate(layer.groups):
            for j in group:
                alone = len(group) > 1 and int(alive[j].sum()) == 1
                traded = alone and depth + 1 < len(kan.layers) and _trade(layer, kan.layers[depth + 1], q, j)
                for i in np.flatnonzero(layer.spline_mask[j]).tolist():
                    level = _level(kan, depth, q, j, i)
                    rates = _rates(kan.layers[depth - 1], i) if depth else ()
                    found[depth, j, i] = Role((depth, j, i), alone, traded, level, rates)
    return found


def _level(kan: Kan, depth: int, node: int, j: int, i: int) -> float:
    """The d of an edge at which its sum has no constant, counting the d of named edges; in raw units for an output."""
    layer = kan.layers[depth]
    level = -layer.subnode_bias[j]
    if depth + 1 == len(kan.layers) and layer.arity[node] == 1:
        shift = kan.output_shift[node] / kan.output_scale[node] + layer.node_bias[node]
        level -= shift / layer.node_scale[node]
    level /= layer.subnode_scale[j]
    for index in np.flatnonzero(layer.symbolic_mask[j]).tolist():
        if index != i:
            natural = -kan.input_shift[index] / kan.input_scale[index] if depth == 0 else 0.0
            _, _, c, d = layer.affine[j, index]
            level -= d + (c * natural if layer.functions[j, index] == "x" else 0.0)
    return float(level) if np.isfinite(level) else 0.0


def _trade(layer: Layer, after: Layer, node: int, j: int) -> bool:
    """Whether another node, added to the node of factor j in some sum, takes all inputs of j's other factors."""
    others = layer.alive[[m for m in layer.groups[node] if m != j]].any(axis=0)
    sums = after.alive[after.alive[:, node]]
    beside = set(np.flatnonzero(sums.any(axis=0)).tolist()) - {node}
    return any(bool((layer.alive[list(layer.groups[q])].any(axis=0) >= others).all()) for q in beside)


def _rates(before: Layer, node: int) -> tuple[float, ...]:
    """The rates r for which e^(r·z) has x, 1/x or x² as a factor, for a node z = .. + c·log(x) + .."""
    group = before.groups[node]
    if len(group) > 1:
        return ()
    logs = np.flatnonzero(before.functions[group.start] == "log")
    if not len(logs):
        return ()
    c = before.affine[group.start, logs[0], 2] * before.subnode_scale[group.start] * before.node_scale[node]
    return tuple(power / float(c) for power in (1.0, -1.0, 2.0)) if c else ()
