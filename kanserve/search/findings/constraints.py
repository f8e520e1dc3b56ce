"""Constraints of a search: the functions allowed on each input, nested functions, and the complexity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError, InputError
from kanserve.formula.constants.recognition import exact_form
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Tree, references
from kanserve.network.functions import function
from kanserve.network.powers import exponent_of
from kanserve.search.trees.compose import POWERS
from kanserve.simplification.edge_candidates import LIBRARY

Array = NDArray[np.float64]

# Complexity of a candidate, relative to `max_complexity`, up to which it is kept: it is not simplified yet.
UNSIMPLIFIED_COMPLEXITY_RATIO = 2.0

_WAVES = frozenset({"sin", "cos"})


@dataclass(frozen=True)
class Constraints:
    """Constraints for every formula. `functions`: those allowed for expressions of each input; powers are always
    allowed, and sines and cosines allow each other. `nested` maps a function to how often others may be nested in
    it."""

    library: tuple[str, ...] = LIBRARY
    functions: tuple[frozenset[str], ...] | None = None
    nested: Mapping[str, Mapping[str, int]] | None = None
    max_complexity: float = np.inf

    @property
    def any(self) -> bool:
        return self.functions is not None or bool(self.nested) or np.isfinite(self.max_complexity)

    def of_complexity(self) -> "Constraints":
        """A copy that limits only the complexity."""
        return Constraints(max_complexity=self.max_complexity)

    def allow(self, tree: Tree) -> bool:
        """Whether a finished formula satisfies all constraints."""
        return self.allow_functions(tree) and complexity(tree) <= self.max_complexity

    def may_allow(self, tree: Tree) -> bool:
        """Whether a candidate could satisfy the constraints once it is simplified."""
        ratio = UNSIMPLIFIED_COMPLEXITY_RATIO
        return self.allow_functions(tree) and complexity(tree) <= ratio * self.max_complexity

    def allow_law(self, tree: Tree, x: Array, y: Array) -> bool:
        """Whether a law that would end the search is allowed, after simplification for rows x and y."""
        if not self.allow_functions(tree):
            return False
        try:
            return complexity(tree) <= self.max_complexity or complexity(exact_form(tree, x, y)) <= self.max_complexity
        except FormulaError:
            return False

    def allow_functions(self, tree: Tree) -> bool:
        """Whether the tree uses only functions that are allowed for their inputs and nesting."""
        if self.functions is None and not self.nested:
            return True
        inside: list[frozenset[int]] = []
        depths: list[dict[str, int]] = []
        for number, step in enumerate(tree):
            operands = _operands(tree, number)
            inputs = frozenset({step[1]}) if step[0] == "var" else frozenset().union(*(inside[n] for n in operands))
            below: dict[str, int] = {}
            for operand in operands:
                for name, depth in depths[operand].items():
                    below[name] = max(below.get(name, 0), depth)
            if step[0] == "call" and not _is_power(tree, number):
                inside_a_power = _only_in_powers(tree, number)
                if not inside_a_power and not self._allows_function(step[1], inputs, below):
                    return False
                below[step[1]] = below.get(step[1], 0) + (not inside_a_power)
            inside.append(inputs)
            depths.append(below)
        return True

    def _allows_function(self, name: str, inputs: frozenset[int], below: Mapping[str, int]) -> bool:
        limits = {} if self.nested is None else self.nested.get(name, {})
        if any(below.get(inner, 0) > most for inner, most in limits.items()):
            return False
        return self.functions is None or all(name in self.functions[column] for column in inputs)


def check_constraints(functions: Any, nested: Any, max_complexity: Any, inputs: Sequence[str]) -> Constraints:
    """Validate the constraint arguments of `find_formulas`. Raises InputError or NotFoundError if one is not valid."""
    by_input = functions if isinstance(functions, Mapping) else dict.fromkeys(inputs, functions)
    unknown = [name for name in by_input if name not in inputs]
    if unknown:
        raise InputError(f"functions has {unknown[0]!r}, which is not an input; the inputs are {', '.join(inputs)}.")
    for names in by_input.values():
        if isinstance(names, str) or not isinstance(names, Sequence) or not (names or isinstance(functions, Mapping)):
            raise InputError(f"functions are a list of names, or a mapping from inputs to lists, got {functions!r}.")
        for name in names:
            function(name)
    if max_complexity is not None and not (isinstance(max_complexity, int | float) and max_complexity >= 1):
        raise InputError(f"max_complexity must be a number of 1 or more, got {max_complexity!r}.")
    lists = [tuple(by_input.get(name, LIBRARY)) for name in inputs]
    library = tuple(dict.fromkeys(["x", *(name for names in lists for name in names)]))
    free = all(names == LIBRARY for names in lists)
    return Constraints(
        library=LIBRARY if free else tuple(functions) if not isinstance(functions, Mapping) else library,
        functions=None if free else tuple(_with_kin(names) for names in lists),
        nested=_check_nesting(nested),
        max_complexity=np.inf if max_complexity is None else float(max_complexity),
    )


def _with_kin(names: Sequence[str]) -> frozenset[str]:
    return frozenset({*names, *POWERS, *(_WAVES if _WAVES & {*names} else ())})


def _check_nesting(nested: Any) -> Mapping[str, Mapping[str, int]]:
    wanted = "nested_constraints maps functions to functions and numbers, as in {'sin': {'sin': 0, 'exp': 1}}"
    if nested is None:
        return {}
    if not isinstance(nested, Mapping) or not all(isinstance(limits, Mapping) for limits in nested.values()):
        raise InputError(f"{wanted}; got {nested!r}.")
    for outer, limits in nested.items():
        function(outer)
        for inner, most in limits.items():
            function(inner)
            if not isinstance(most, int) or isinstance(most, bool) or most < 0:
                raise InputError(f"{wanted}; the number for {inner!r} in {outer!r} is {most!r}.")
    return nested


def _operands(tree: Tree, number: int) -> tuple[int, ...]:
    return tuple(references(tree[number]))


def _is_power(tree: Tree, number: int) -> bool:
    """Whether a step is a power: u^(5/3), or exp(p*log(u)) with any exponent p."""
    if tree[number][0] == "call" and exponent_of(tree[number][1]) is not None:
        return True
    return tree[number][:2] == ("call", "exp") and _logarithm(tree, tree[number][2]) is not None


def _logarithm(tree: Tree, number: int) -> int | None:
    """The step log(u) if this step is p*log(u), else None."""
    step = tree[number]
    operands = step[1:] if step[0] == "mul" else (number,)
    others = [operand for operand in operands if tree[operand][0] != "const"]
    return others[0] if len(others) == 1 and tree[others[0]][:2] == ("call", "log") else None


def _only_in_powers(tree: Tree, number: int) -> bool:
    """Whether a logarithm is used only in powers exp(p*log(u))."""
    if tree[number][1] != "log":
        return False
    powers = [_logarithm(tree, step[2]) for step in tree if step[:2] == ("call", "exp")]
    products = {step[2] for step in tree if step[:2] == ("call", "exp")}
    users = [n for n, step in enumerate(tree) if number in references(step)]
    return number in powers and all(n in products or tree[n][:2] == ("call", "exp") for n in users)
