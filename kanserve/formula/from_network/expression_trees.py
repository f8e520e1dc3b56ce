"""Convert the edges of a network to the steps of its formulas, with the same scales and biases as in evaluation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.linear_forms import (
    Form,
    Steps,
    UnfoldableError,
    apply,
    call,
    leading,
    multiply,
    one_atom,
    scale,
    step_of,
    sum_forms,
)
from kanserve.formula.expressions.tree import Table, Tree
from kanserve.formula.from_network.rounding_noise import RoundingNoise
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import pieces

Array = NDArray[np.float64]
Settle = Callable[[Form], Form]  # see `RoundingNoise.settled`

# A shift of more than this many scales would lose digits if expanded; x - shift is kept instead.
LARGEST_OFFSET = 1000.0
LONGEST_FOLDED = 8  # longer sums are not expanded into the next layer


@dataclass(frozen=True)
class Trees:
    """One tree per output, and the tables of all spline edges in them."""

    trees: tuple[Tree, ...]
    tables: Mapping[str, Table]


def trees(kan: Kan, *, fold: bool = True, x: Array | None = None) -> Trees:
    """The outputs' trees in raw features: in canonical form, or (`fold=False`) step by step as the network computes.
    With rows x (N, inputs), rounding noise in the network's constants is removed from the canonical form."""
    if fold:
        try:
            return _trees(kan, fold=True, x=x)
        except UnfoldableError:
            pass
    return _trees(kan, fold=False, x=None)


def _trees(kan: Kan, *, fold: bool, x: Array | None) -> Trees:
    steps = Steps(fold=fold)
    tables: dict[str, Table] = {}
    settle = _as_it_is if x is None else RoundingNoise(steps, tables, x).drop_noise
    values = [_input(kan, steps, i) for i in range(len(kan.inputs))]
    needed = _find_needed_nodes(kan)
    for number, (layer, alive) in enumerate(zip(kan.layers, needed, strict=True), start=1):
        values = _layer(steps, settle, tables, layer, number, values, alive)
    outputs = [
        settle(scale(steps, _compute(steps, value), float(factor), float(shift)))
        for value, factor, shift in zip(values, kan.output_scale, kan.output_shift, strict=True)
    ]
    return Trees(tuple(steps.tree(step_of(steps, output)) for output in outputs), tables)


def _input(kan: Kan, steps: Steps, i: int) -> Form:
    """The normalised input (x - shift) / scale."""
    shift, divisor = float(kan.input_shift[i]), float(kan.input_scale[i])
    column = steps.add("var", i)
    factor = 1 / divisor
    if not math.isfinite(factor):
        centred = step_of(steps, Form(-shift, ((column, 1.0),)))
        return one_atom(steps.add("mul", centred, steps.add("pow", steps.constant(divisor), -1)))
    if abs(shift) <= LARGEST_OFFSET * abs(divisor) and steps.fold:
        return Form(-shift * factor, ((column, factor),))
    centred = step_of(steps, Form(-shift, ((column, 1.0),)))
    return scale(steps, one_atom(centred), factor)


def _find_needed_nodes(kan: Kan) -> list[NDArray[np.bool_]]:
    """Masks of the nodes of each layer that an output depends on."""
    needed = [np.ones(kan.layers[-1].nodes, np.bool_)]
    for layer in reversed(kan.layers[1:]):
        needed.insert(0, layer.alive[np.repeat(needed[0], layer.arity)].sum(axis=0) > 0)
    return needed


def _layer(
    steps: Steps,
    settle: Settle,
    tables: dict[str, Table],
    layer: Layer,
    number: int,
    values: list[Form],
    needed: NDArray[np.bool_],
) -> list[Form]:
    wanted = np.repeat(needed, layer.arity)
    uses = layer.alive[wanted].sum(axis=0)
    arguments = [_argument(steps, value, int(use)) for value, use in zip(values, uses, strict=True)]
    named = _tables(layer, number, wanted)
    tables |= {name: table for name, table in named.values()}
    nodes = []
    for q, group in enumerate(layer.groups):
        if not needed[q]:
            nodes.append(Form())
            continue
        subnodes = []
        for j in group:
            alive = np.flatnonzero(layer.alive[j])
            edges = [_edge(steps, settle, layer, j, int(i), arguments[i], named) for i in alive]
            total = _compute(steps, sum_forms(steps, edges))
            subnodes.append(settle(scale(steps, total, float(layer.subnode_scale[j]), float(layer.subnode_bias[j]))))
        product = _compute(steps, subnodes[0])
        if len(subnodes) > 1:
            product = _product(steps, subnodes)
        nodes.append(settle(scale(steps, product, float(layer.node_scale[q]), float(layer.node_bias[q]))))
    return nodes


def _argument(steps: Steps, form: Form, uses: int) -> Form:
    """A node as the argument of edges: expanded in each edge if it is short, else one shared atom."""
    if not steps.fold or not form.terms:
        return _compute(steps, form)
    if len(form.terms) <= (LONGEST_FOLDED if uses == 1 else 2):
        return form
    lead, rest = leading(Form(0.0, form.terms))
    atom = step_of(steps, scale(steps, rest, math.copysign(1.0, lead)))
    return scale(steps, one_atom(atom), abs(lead), form.constant)


def _compute(steps: Steps, form: Form) -> Form:
    """Without folding, make a computed value a single atom, so that no constant moves out of it."""
    return form if steps.fold or not form.terms else one_atom(step_of(steps, form))


def _as_it_is(form: Form) -> Form:
    return form


def _product(steps: Steps, subnodes: list[Form]) -> Form:
    if steps.fold:
        return multiply(steps, subnodes)
    return one_atom(steps.add("mul", *(step_of(steps, subnode) for subnode in subnodes)))


def _edge(
    steps: Steps,
    settle: Settle,
    layer: Layer,
    j: int,
    i: int,
    argument: Form,
    named: Mapping[tuple[int, int], tuple[str, Table]],
) -> Form:
    """base_weight·base(u) + s(u) + c·f(a·u + b) + d, with the parts that the edge has."""
    parts = []
    if layer.base != "zero" and layer.base_weight[j, i] != 0:
        base = "silu" if layer.base == "silu" else "x"
        parts.append(scale(steps, _call(steps, base, argument), float(layer.base_weight[j, i])))
    if (j, i) in named:
        parts.append(_spline(steps, *named[j, i], argument))
    if layer.functions[j, i]:
        a, b, c, d = (float(constant) for constant in layer.affine[j, i])
        inner = scale(steps, argument, a, b)
        if not all(math.isfinite(number) for number in (inner.constant, *(c for _, c in inner.terms))):
            raise UnfoldableError
        inner = settle(inner)
        parts.append(scale(steps, _call(steps, str(layer.functions[j, i]), inner), c, d))
    return sum_forms(steps, parts)


def _spline(steps: Steps, name: str, table: Table, argument: Form) -> Form:
    if not argument.terms:
        return Form(float(table(np.array([argument.constant]))[0]))  # a pruned node: a number, not a spline
    return one_atom(steps.add("spline", name, step_of(steps, argument)))


def _call(steps: Steps, name: str, argument: Form) -> Form:
    return apply(steps, name, argument) if steps.fold else call(steps, name, argument)


def _tables(layer: Layer, number: int, wanted: NDArray[np.bool_]) -> dict[tuple[int, int], tuple[str, Table]]:
    """The name and the table of each edge (j, i) whose spline is not zero and whose subnode is needed."""
    present = (layer.coefficients != 0).any(axis=2) & wanted[:, None]
    if not present.any():
        return {}
    local = pieces(layer.knots, layer.coefficients, layer.order, layer.extrapolation)
    result = {}
    for j, i in np.argwhere(present).tolist():
        # Inputs of a layer may have different numbers of pieces; unused breaks are infinite.
        count = int(np.isfinite(local.breaks[i]).sum())
        table = Table(local.breaks[i, :count], local.origins[i, : count + 1], local.coefficients[j, i, : count + 1])
        result[j, i] = (f"s_{number}_{j + 1}_{i + 1}", table)
    return result
