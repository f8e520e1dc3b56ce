"""From linear forms over steps to the layers of a network, as few and as narrow as possible. A sum or a product becomes
a node in the earliest layer that its operands allow; a function of one variable becomes an edge wherever it is used.
Identity edges carry a node to the later layers that use it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.linear_forms import Form, Steps, form_of, leading, step_of
from kanserve.network.kan import Layer, make_layer

MAX_EDGES = 1_000_000  # of all layers, zero edges included: arrays have an element for each

_POWER_NAMES = {1: "x", 2: "x^2", 3: "x^3", 4: "x^4", -1: "1/x", -2: "1/x^2"}


@dataclass(frozen=True)
class _Edge:
    """An edge c·f(a·source + b); the source is a step that is a node."""

    source: int
    function: str = "x"
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0


@dataclass(frozen=True)
class _Subnode:
    edges: tuple[_Edge, ...]
    bias: float = 0.0


@dataclass(frozen=True)
class _Node:
    subnodes: tuple[_Subnode, ...]
    scale: float = 1.0
    bias: float = 0.0

    @property
    def sources(self) -> set[int]:
        return {edge.source for subnode in self.subnodes for edge in subnode.edges}


def layers(steps: Steps, inputs: Sequence[int], outputs: Sequence[Form]) -> tuple[Layer, ...]:
    """Layers that compute the forms of the outputs from the steps that are inputs. Raises FormulaError if that takes
    more than MAX_EDGES edges."""
    return _Layering(steps, inputs).layers(outputs)


class _Layering:
    """Assigns steps to layers. `_nodes` maps steps to their nodes, `_depth` to their layers; inputs are in layer 0."""

    def __init__(self, steps: Steps, inputs: Sequence[int]) -> None:
        self._steps = steps
        self._inputs = list(inputs)
        self._nodes: dict[int, _Node] = {}
        self._depth = dict.fromkeys(inputs, 0)

    def layers(self, outputs: Sequence[Form]) -> tuple[Layer, ...]:
        last = [self._output(output) for output in outputs]
        depths = [1 + self._deepest(node.sources) for node in last]
        count = max(depths)
        # An output that is ready before the last layer is carried there as a single node.
        last = [
            self._carry(form) if depth < count else node
            for form, node, depth in zip(outputs, last, depths, strict=True)
        ]
        for node in last:
            self._deepest(node.sources)
        held = self._hold(last, count)
        made = [self._nodes_of_layer(n, held, last) for n in range(1, count + 1)]
        sizes = [sum(len(node.subnodes) for node in nodes) * len(held[n]) for n, nodes in enumerate(made)]
        if sum(sizes) > MAX_EDGES:
            raise FormulaError(
                f"This formula needs a network of {sum(sizes)} edges, zero edges included; at most "
                f"{MAX_EDGES} are allowed. Make a network of each part."
            )
        return tuple(_layer(sources, nodes) for sources, nodes in zip(held, made, strict=True))

    def _output(self, form: Form) -> _Node:
        """The node of an output. The affine part around a product or a nested sum becomes the node's scale and bias."""
        if len(form.terms) == 1 and self._steps.steps[form.terms[0][0]][0] in ("add", "mul", "pow"):
            made = self._node_of(form.terms[0][0])
            if len(made.subnodes) > 1 or len(made.subnodes[0].edges) > 1:
                return _Node(made.subnodes, form.terms[0][1], form.constant)
        return _Node((self._subnode(form),))

    def _carry(self, form: Form) -> _Node:
        if not form.terms:
            return self._output(form)
        source, a, b = self._argument(form)
        return _Node((_Subnode((_Edge(source, c=a),), b),))

    def _node_of(self, atom: int) -> _Node:
        """Convert a step to a node."""
        match self._steps.steps[atom]:
            case ("add", *_):
                return _Node((self._subnode(form_of(self._steps, atom)),))
            case _:
                return _Node(tuple(self._subnode(form_of(self._steps, factor)) for factor in self._factors(atom)))

    def _factors(self, atom: int) -> list[int]:
        """The factors of an atom, each a named function: x^7 is x^4·x^3. In a product, sin(x)^2 is sin(x)·sin(x), since
        the square of a node would need another layer."""
        result: list[int] = []
        factors = self._steps.factors(atom)
        for factor in factors:
            match self._steps.steps[factor]:
                case ("pow", base, int(exponent)) if exponent not in _POWER_NAMES:
                    whole, part = divmod(abs(exponent), 4 if exponent > 0 else 2)
                    unit, most = (1, 4) if exponent > 0 else (-1, -2)
                    result += [self._steps.add("pow", base, most)] * whole
                    result += [base if unit * part == 1 else self._steps.add("pow", base, unit * part)] * (part > 0)
                case ("pow", base, int(exponent)) if (
                    len(factors) > 1 and exponent > 0 and self._steps.steps[base][0] == "call"
                ):
                    result += [base] * exponent
                case _:
                    result.append(factor)
        return result

    def _subnode(self, form: Form) -> _Subnode:
        """Convert a form to a sum of edges. Several functions of one source become nodes of the previous layer, since a
        source has only one edge."""
        edges = [self._edge(atom, coefficient) for atom, coefficient in form.terms]
        atoms = [atom for atom, _ in form.terms]
        while True:
            count = Counter(edge.source for edge in edges)
            shared = [n for n, edge in enumerate(edges) if count[edge.source] > 1 and edge.source != atoms[n]]
            if not shared:
                return _Subnode(tuple(edges), form.constant)
            for n in shared:
                edges[n] = _Edge(atoms[n], c=form.terms[n][1])

    def _edge(self, atom: int, coefficient: float) -> _Edge:
        match self._steps.steps[atom]:
            case ("call", str(name), argument):
                return _Edge(*self._apply(name, argument), coefficient)
            case ("pow", argument, int(exponent)) if exponent in _POWER_NAMES:
                return _Edge(*self._apply(_POWER_NAMES[exponent], argument), coefficient)
            case _:
                return _Edge(atom, c=coefficient)

    def _apply(self, name: str, argument: int) -> tuple[int, str, float, float]:
        source, a, b = self._argument(form_of(self._steps, argument))
        return source, name, a, b

    def _argument(self, form: Form) -> tuple[int, float, float]:
        """The source, a and b of an edge; sums that are equal up to a factor share a source."""
        assert form.terms, "a function of a constant has been folded, or refused"
        if len(form.terms) > 1:
            lead, rest = leading(Form(0.0, tuple(sorted(form.terms))))
            return step_of(self._steps, rest), lead, form.constant
        atom, coefficient = form.terms[0]
        if self._steps.steps[atom][0] != "add":
            return atom, coefficient, form.constant
        source, a, b = self._argument(form_of(self._steps, atom))
        return source, coefficient * a, coefficient * b + form.constant

    def _deepest(self, needed: set[int]) -> int:
        """Make nodes of the needed steps and their operands, and return the largest depth, 0 for none."""
        waiting = list(needed)
        while waiting:
            step = waiting[-1]
            if step not in self._nodes and step not in self._depth:
                self._nodes[step] = self._node_of(step)
            missing = [] if step in self._depth else [s for s in self._nodes[step].sources if s not in self._depth]
            if missing:
                waiting += missing
                continue
            if step not in self._depth:
                self._depth[step] = 1 + max((self._depth[s] for s in self._nodes[step].sources), default=0)
            waiting.pop()
        return max((self._depth[step] for step in needed), default=0)

    def _hold(self, last: Sequence[_Node], count: int) -> list[list[int]]:
        """For each layer except the last, the steps that it has nodes for."""
        last_use: dict[int, int] = {}
        waiting = [(source, count - 1) for node in last for source in sorted(node.sources)]
        while waiting:
            step, use = waiting.pop()
            known = step in last_use
            last_use[step] = max(use, last_use.get(step, 0))
            if not known and step in self._nodes:
                waiting += [(source, self._depth[step] - 1) for source in sorted(self._nodes[step].sources)]
        held = [self._inputs]
        for n in range(1, count):
            held.append(sorted(key for key, use in last_use.items() if self._depth[key] <= n <= use))
        return held

    def _nodes_of_layer(self, n: int, held: list[list[int]], last: Sequence[_Node]) -> list[_Node]:
        if n == len(held):
            return list(last)
        return [self._nodes[step] if self._depth[step] == n else _Node((_Subnode((_Edge(step),)),)) for step in held[n]]


def _layer(sources: Sequence[int], nodes: Sequence[_Node]) -> Layer:
    subnodes = [subnode for node in nodes for subnode in node.subnodes]
    column = {source: i for i, source in enumerate(sources)}
    functions = np.full((len(subnodes), len(sources)), "", dtype=object)
    affine = np.tile([1.0, 0.0, 1.0, 0.0], (*functions.shape, 1))
    for j, subnode in enumerate(subnodes):
        d = subnode.bias if len(subnode.edges) == 1 else 0.0
        for edge in subnode.edges:
            functions[j, column[edge.source]] = edge.function
            affine[j, column[edge.source]] = (edge.a, edge.b, edge.c, d)
    return make_layer(
        functions=functions,
        affine=affine,
        subnode_bias=[0.0 if len(subnode.edges) == 1 else subnode.bias for subnode in subnodes],
        arity=[len(node.subnodes) for node in nodes],
        node_scale=[node.scale for node in nodes],
        node_bias=[node.bias for node in nodes],
    )
