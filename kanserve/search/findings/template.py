"""A template: a formula with unknown functions and unknown constants, such as `f(a)*exp(-b*t)`. A name before a bracket
that is not a known function is an unknown function of the inputs in the bracket; any other name that is not an input is
an unknown constant. The template is a formula tree whose columns are the inputs, the values of the unknown functions,
and the constants."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import Constants, check_data, fit_constants
from kanserve.formula.expressions.linear_forms import renumber
from kanserve.formula.expressions.parsing import EXTREMES, FUNCTION_NAMES
from kanserve.formula.expressions.tree import Step, Tree, references
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.to_network.from_formula import from_formula

Array = NDArray[np.float64]

TEMPLATE_DIFFERENCE = 1e-6  # relative step of the difference quotient of a template by an unknown function

_CALL = re.compile(r"([^\W\d]\w*)\s*\(([^()]*)\)")
_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[^\W\d]\w*')
_INVERSES: dict[str, Callable[[Array], Array]] = {
    "exp": np.log,
    "log": np.exp,
    "sqrt": np.square,
    "1/sqrt": lambda y: 1 / np.square(y),
    "sinh": np.arcsinh,
    "tanh": np.arctanh,
    "arcsin": np.sin,
    "arccos": np.cos,
    "arctan": np.tan,
    "arctanh": np.tanh,
    "sigmoid": lambda y: np.log(y / (1 - y)),
}
"""The inverses of the functions that have one everywhere."""


@dataclass(frozen=True, eq=False)
class Template:
    """A formula with unknown functions. `unknowns` maps the text of each, such as f(a, b), to its inputs' columns."""

    text: str
    tree: Tree
    inputs: int
    unknowns: Mapping[str, tuple[int, ...]]
    constants: tuple[str, ...]

    def values(self, x: Array, parts: Array, constants: Array) -> Array:
        """Evaluate at rows x (N, inputs), with the unknown functions' values (N, U) and the constants (C,)."""
        return evaluate_tree(self.tree, {}, self._columns(x, parts, constants))

    def _columns(self, x: Array, parts: Array, constants: Array) -> Array:
        return np.column_stack([x, parts, np.broadcast_to(constants, (len(x), len(constants)))])

    def solve(self, unknown: int, x: Array, y: Array, parts: Array, constants: Array) -> Array:
        """The values (N,) of an unknown function for which the template gives y (N,), with the other ones fixed; NaN if
        there are none. Raises InputError if the template does not determine it."""
        column = self.inputs + unknown
        with np.errstate(all="ignore"):
            if sum(step == ("var", column) for step in self.tree) == 1 and self._uses(column) == 1:
                return self._undone(column, self._columns(x, parts, constants), y)
            return self._linear(unknown, x, y, parts, constants)

    def sensitivity(self, unknown: int, x: Array, parts: Array, constants: Array) -> Array:
        """The absolute derivative (N,) of the template with respect to an unknown function, by finite differences."""
        step = TEMPLATE_DIFFERENCE * np.maximum(np.abs(parts[:, unknown]), 1e-3)
        above, below = parts.copy(), parts.copy()
        above[:, unknown] += step
        below[:, unknown] -= step
        with np.errstate(all="ignore"):
            slope: Array = (self.values(x, above, constants) - self.values(x, below, constants)) / (2 * step)
        return np.abs(slope)

    def linear(self, x: Array, constants: Array) -> bool:
        """Whether the template is linear in its unknown functions, at these rows."""
        generator = np.random.default_rng(0)
        first, second = generator.uniform(0.5, 2, (2, len(x), len(self.unknowns)))
        level = self.values(x, 0 * first, constants)
        added = self.values(x, first, constants) + self.values(x, second, constants) - level
        both = self.values(x, first + second, constants)
        return bool(np.allclose(both, added, rtol=1e-9, atol=1e-9 * float(np.nanmax(np.abs(both))), equal_nan=True))

    def fill(self, parts: Sequence[Tree], constants: Array) -> "Filled":
        """Insert a tree for each unknown function, and the constants. Returns the whole formula."""
        steps: list[Step] = []
        number: dict[int, int] = {}
        starts: dict[int, int] = {}
        for position, step in enumerate(self.tree):
            column = step[1] - self.inputs if step[0] == "var" else -1
            if column >= len(parts):
                starts[column] = len(steps)
                steps.append(("const", float(constants[column - len(parts)])))
            elif column >= 0:
                starts[column] = len(steps)
                inner = list(self.unknowns.values())[column]
                own = {old: old + len(steps) for old in range(len(parts[column]))}
                steps += [
                    ("var", inner[part[1]]) if part[0] == "var" else renumber(part, own) for part in parts[column]
                ]
            else:
                steps.append(renumber(step, number))
            number[position] = len(steps) - 1
        return Filled(self, tuple(steps), starts, tuple(parts), constants)

    def _uses(self, column: int) -> int:
        """How many paths lead from a column to the result; 1 if the template can be inverted step by step."""
        paths = [0] * len(self.tree)
        for position, step in enumerate(self.tree):
            own = step == ("var", column)
            paths[position] = 1 if own else sum(paths[reference] for reference in references(step))
        return paths[-1]

    def _undone(self, column: int, columns: Array, y: Array) -> Array:
        """Invert the template step by step, from y to the values of the column."""
        position = len(self.tree) - 1
        holds = [step == ("var", column) for step in self.tree]
        for place, step in enumerate(self.tree):
            holds[place] = holds[place] or any(holds[reference] for reference in references(step))
        while self.tree[position] != ("var", column):
            step = self.tree[position]
            (inner,) = (reference for reference in references(step) if holds[reference])
            others = [evaluate_tree(self.tree[: n + 1], {}, columns) for n in references(step) if n != inner]
            match step:
                case ("add", *_):
                    y = y - sum(others)
                case ("mul", *_):
                    y = y / math.prod(others, start=np.ones(len(y)))
                case ("pow", _, int(exponent)) if exponent % 2:
                    y = np.sign(y) * np.abs(y) ** (1 / exponent)
                case ("call", str(name), _) if name in _INVERSES:
                    y = _INVERSES[name](y)
                case _:
                    raise self._undetermined_error(step)
            position = inner
        return np.where(np.isfinite(y), y, np.nan)

    def _undetermined_error(self, step: Step) -> InputError:
        what = f"a power of {step[2]}" if step[0] == "pow" else str(step[1])
        return InputError(
            f"The template {self.text!r} does not determine its unknown function: {what} of it has one value for "
            "several arguments. Let that be part of the unknown function."
        )

    def _linear(self, unknown: int, x: Array, y: Array, parts: Array, constants: Array) -> Array:
        """Solve for an unknown function that occurs several times; needs a template that is linear in it."""
        if not self.linear(x, constants):
            raise InputError(
                f"The template {self.text!r} has an unknown function more than once, and is not linear in it. Write "
                "the template so that it occurs once."
            )
        level, slope = self.linear_parts(x, constants, parts, unknown)
        return (y - level) / slope

    def linear_parts(self, x: Array, constants: Array, parts: Array, unknown: int) -> tuple[Array, Array]:
        """The intercept and slope (N,) of a template that is linear in one unknown function."""
        without, with_one = parts.copy(), parts.copy()
        without[:, unknown], with_one[:, unknown] = 0.0, 1.0
        level = self.values(x, without, constants)
        return level, self.values(x, with_one, constants) - level


@dataclass(frozen=True, eq=False)
class Filled:
    """A template with trees in place of its unknown functions. `starts` is the first step of each tree, by column."""

    template: Template
    tree: Tree
    starts: Mapping[int, int]
    parts: tuple[Tree, ...]
    constants: Array

    def refit(self, rows: Dataset) -> "Filled":
        """Refit all constants to the rows, including those inside the unknown functions."""
        known = [n for n, step in enumerate(self.tree) if step[0] == "const" and not self._is_unknown(n)]
        numbers = Constants(self.tree, known)
        values = fit_constants(numbers, check_data(rows.x, rows.y, rows.weights)).values
        at = {numbers.sources[place]: float(value) for place, value in zip(numbers.places, values, strict=True)}
        parts = [
            tuple(
                ("const", at.get(self.starts[k] + n, step[1])) if step[0] == "const" else step
                for n, step in enumerate(part)
            )
            for k, part in enumerate(self.parts)
        ]
        count = len(self.parts)
        constants = [
            at.get(self.starts[count + k], float(value)) if count + k in self.starts else float(value)
            for k, value in enumerate(self.constants)
        ]
        return self.template.fill(parts, np.array(constants))

    def _is_unknown(self, position: int) -> bool:
        """Whether the step belongs to an unknown function or is one of the template's free constants."""
        sizes = [len(part) for part in self.parts] + [1] * len(self.constants)
        return any(start <= position < start + sizes[column] for column, start in self.starts.items())


def read_template(text: str, inputs: Sequence[str], output: str) -> Template:
    """Parse a template. Raises InputError if it has no unknown function, or one whose arguments are not inputs."""
    if not isinstance(text, str):
        raise InputError(f"template is a text such as 'f(a)*exp(-b*t)', got {text!r:.60}.")
    left, equals, right = text.partition("=")
    if equals and left.strip().strip('"') != output:
        raise InputError(f"The template {text!r} is of {left.strip()!r}; the output is {output!r}.")
    unknowns: dict[str, tuple[int, ...]] = {}

    def quote_name(match: re.Match[str]) -> str:
        name, given = match[1], [part.strip() for part in match[2].split(",")]
        if name in (*FUNCTION_NAMES, *EXTREMES):
            return match[0]
        if name in inputs:
            raise InputError(f"In the template, {name!r} is an input: write a product as {name}*(...).")
        if not all(_NAME.fullmatch(part) and part.strip('"') in inputs for part in given):
            raise InputError(
                f"In the template, {name}(...) is an unknown function of inputs, as {name}({inputs[0]}); "
                f"got {match[0]!r}. The inputs are {', '.join(inputs)}; known functions are "
                f"{', '.join(sorted({*FUNCTION_NAMES, *EXTREMES}))}."
            )
        columns = tuple(list(inputs).index(part.strip('"')) for part in given)
        label = f"{name}({', '.join(inputs[column] for column in columns)})"
        if any(known.partition("(")[0] == name and known != label for known in unknowns):
            raise InputError(f"The template has {name} with different inputs; an unknown function has the same ones.")
        unknowns[label] = columns
        return '"' + label.replace('"', "'") + '"'

    body = _CALL.sub(quote_name, right if equals else text)
    if not unknowns:
        raise InputError(
            f"The template {text!r} has no unknown function, such as f({inputs[0]}). To fit the constants of a known "
            "formula, give it as start."
        )
    if any(len(set(columns)) < len(columns) for columns in unknowns.values()):
        raise InputError(f"In the template {text!r}, an unknown function has an input twice.")
    known = {*inputs, *unknowns, "pi", "e", *FUNCTION_NAMES, *EXTREMES}
    names = [match[0] for match in _NAME.finditer(body)]
    constants = tuple(dict.fromkeys(name for name in names if name.strip('"') not in known))
    kan = from_formula(body, inputs=[*inputs, *(label for label in unknowns), *constants])
    return Template(text, trees(kan).trees[0], len(inputs), unknowns, constants)
