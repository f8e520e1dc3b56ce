"""A formula as a step of a session: its exact text, and the network of that text with the variables of another."""

from collections.abc import Sequence
from dataclasses import replace

from kanserve.errors import InputError
from kanserve.formula import from_formula
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.printing.notations import Text
from kanserve.formula.printing.unfolding import print_tree, unfold
from kanserve.network.kan import Kan
from kanserve.network.training_range import ranges

_LONGEST, _OPERATIONS = 30_000, 5_000


class _Exact(Text):
    """Numbers with the shortest digits that give the same double."""

    def number(self, value: float) -> str:
        return repr(value)


def exact_text(formula: Formula, names: Sequence[str]) -> str:
    """The formula in the grammar of `kanserve.from_formula`, without rounding; `names` are those of all columns."""
    text = print_tree(unfold(formula.tree, _OPERATIONS), _Exact(names), _LONGEST)
    if not formula.closed_form or text is None:
        raise InputError("Only a closed form of at most 30,000 characters can be taken as a step.")
    return text


def network_of(text: str, kan: Kan) -> Kan:
    """The network of a formula, with the inputs, ranges and output of `kan`. InputError, with the position, if it is
    none."""
    if len(kan.outputs) != 1 or kan.classes:
        raise InputError(f"A formula replaces a network of one output; this one has {len(kan.outputs)}.")
    names = [variable.name for variable in kan.inputs]
    spans = {name: (float(low), float(high)) for name, (low, high) in zip(names, ranges(kan), strict=True)}
    return replace(from_formula(text, inputs=names, ranges=spans), inputs=kan.inputs, outputs=kan.outputs)
