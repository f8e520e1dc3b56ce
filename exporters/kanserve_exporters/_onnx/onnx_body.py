"""The body of one layer's function as plain data, so that nothing but onnx_graph.py needs the package onnx.

A body is written down call by call: `body("Mul", a, b)` appends an operation and returns the name of its result, or
of the same operation's earlier result. Tables are the function's parameters, so that layers which differ only in
their numbers share one function; scalars are constants inside it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import ExportError
from kanserve.options import Precision

Attribute = int | float | str


@dataclass(frozen=True)
class Operation:
    """One ONNX operator: its inputs and its only output by name, or one output for each part of a Split."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    domain: str = ""
    doc: str = ""


@dataclass(frozen=True)
class Constant:
    """A number, or a short list of integers, inside a function."""

    output: str
    value: NDArray[np.generic]


class Body:
    """What a function computes from its input, named "v" (batch, inputs), and its tables; or a whole graph."""

    def __init__(self, precision: Precision, last: bool = False) -> None:
        self.precision = precision
        self.last = last  # whether what it computes is put out: then nothing makes its errors larger
        self.dtype = np.dtype(np.float64 if precision == "double" else np.float32)
        self.tables: dict[str, NDArray[np.generic]] = {}
        self.steps: list[Operation | Constant] = []
        self._known: dict[object, tuple[str, ...]] = {}

    def __call__(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """The result of an operator with one output."""
        return self._append(kind, inputs, 1, attributes)[0]

    def split(self, value: str, sizes: list[int], axis: int) -> tuple[str, ...]:
        """The parts of a value along an axis."""
        return self._append("Split", (value, self.integers(*sizes)), len(sizes), {"axis": axis})

    def call(self, domain: str, kind: str, *inputs: str, doc: str, **attributes: Attribute) -> str:
        """The result of a function of a domain of our own."""
        name = self._name(0)
        self.steps.append(Operation(kind, inputs, (name,), tuple(sorted(attributes.items())), domain, doc))
        return name

    def inline(self, other: "Body", value: str, output: str, prefix: str) -> str:
        """What another body computes from `value`; its names get a prefix, tables that it has no use for are left."""
        used = {variable for step in other.steps if isinstance(step, Operation) for variable in step.inputs}
        self.tables |= {prefix + name: table for name, table in other.tables.items() if name in used}
        for step in other.steps:
            if isinstance(step, Constant):
                self.steps.append(Constant(prefix + step.output, step.value))
            else:
                inputs = tuple(value if variable == "v" else prefix + variable for variable in step.inputs)
                outputs = tuple(prefix + one for one in step.outputs)
                self.steps.append(replace(step, inputs=inputs, outputs=outputs))
        return prefix + output

    def give(self, output: str, value: str) -> None:
        """Call a value by the name of an output; the last operation so far has made it."""
        made = self.steps.pop()
        assert isinstance(made, Operation) and made.outputs == (value,), value
        self.steps.append(replace(made, outputs=(output,)))

    def number(self, value: float) -> str:
        """A constant of the type that the body computes in."""
        return self._constant(np.asarray(value, self.dtype))

    def integer(self, value: int) -> str:
        """A constant int64."""
        return self._constant(np.asarray(value, np.int64))

    def integers(self, *values: int) -> str:
        """A constant list of int64: axes, sizes."""
        return self._constant(np.asarray(values, np.int64))

    def table(self, name: str, values: ArrayLike) -> str:
        """A parameter of the function; integers stay int64, numbers take the body's type. A name is for one table."""
        given = np.asarray(values)
        with np.errstate(over="ignore"):
            array = given.astype(np.int64 if given.dtype.kind == "i" else self.dtype)
        if (np.isinf(array) & np.isfinite(given)).any():
            raise ExportError(f"The table {name} holds numbers beyond float32's range. Export it in double precision.")
        assert name not in self.tables or np.array_equal(self.tables[name], array, equal_nan=True), name
        self.tables[name] = np.ascontiguousarray(array)
        return name

    @property
    def program(self) -> tuple[object, ...]:
        """What the body does whatever is in its tables: equal for bodies that can be one function."""
        steps = (
            (step.output, step.value.dtype.str, step.value.shape, step.value.tobytes())
            if isinstance(step, Constant)
            else step
            for step in self.steps
        )
        return (*self.tables, *steps)

    def _append(
        self, kind: str, inputs: tuple[str, ...], count: int, attributes: dict[str, Attribute]
    ) -> tuple[str, ...]:
        settings = tuple(sorted(attributes.items()))
        key = (kind, inputs, settings)
        if key not in self._known:
            names = tuple(self._name(n) for n in range(count))
            self.steps.append(Operation(kind, inputs, names, settings))
            self._known[key] = names
        return self._known[key]

    def _constant(self, value: NDArray[np.generic]) -> str:
        key = _bits(value)
        if key not in self._known:
            name = self._name(0)
            self.steps.append(Constant(name, value))
            self._known[key] = (name,)
        return self._known[key][0]

    def _name(self, part: int) -> str:
        return f"t{len(self.steps)}" if part == 0 else f"t{len(self.steps)}_{part}"


def _bits(value: NDArray[np.generic]) -> tuple[object, ...]:
    return value.dtype.str, value.shape, value.tobytes()
