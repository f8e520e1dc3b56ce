"""The body of a layer's function as plain data, so that only onnx_graph.py needs the package onnx. `body("Mul", a, b)`
appends an operation, unless an equal one is there, and returns the name of its result. Tables are parameters of the
function, so that layers that differ only in their numbers share one function."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import ExportError
from kanserve.network.export_options import Precision

Attribute = int | float | str


@dataclass(frozen=True)
class Operation:
    """An ONNX operator: the names of its inputs and of its only output, or of one output per part of a Split."""

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
    """The body of a function with an input "v" (batch, inputs) and tables; or a whole graph."""

    def __init__(self, precision: Precision, last: bool = False) -> None:
        self.precision = precision
        self.last = last  # whether its result is the network's output: then no later layer amplifies its errors
        self.dtype = np.dtype(np.float64 if precision == "double" else np.float32)
        self.tables: dict[str, NDArray[np.generic]] = {}
        self.steps: list[Operation | Constant] = []
        self._known: dict[object, tuple[str, ...]] = {}

    def __call__(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Append an operator with one output, and return the name of its result."""
        return self._append(kind, inputs, 1, attributes)[0]

    def split(self, value: str, sizes: list[int], axis: int) -> tuple[str, ...]:
        """Split a value along an axis, and return the names of the parts."""
        return self._append("Split", (value, self.integers(*sizes)), len(sizes), {"axis": axis})

    def call(self, domain: str, kind: str, *inputs: str, doc: str, **attributes: Attribute) -> str:
        """Append a call of a function in one of our domains, and return the name of its result."""
        name = self._name(0)
        self.steps.append(Operation(kind, inputs, (name,), tuple(sorted(attributes.items())), domain, doc))
        return name

    def inline(self, other: "Body", value: str, output: str, prefix: str) -> str:
        """Append another body applied to `value`; its names get a prefix, and unused tables are left out."""
        used = {variable for step in other.steps if isinstance(step, Operation) for variable in step.inputs}
        self.tables |= {prefix + name: table for name, table in other.tables.items() if name in used}
        for step in other.steps:
            if isinstance(step, Constant):
                self.steps.append(Constant(prefix + step.output, step.value))
            else:
                inputs = tuple(value if variable == "v" else prefix + variable for variable in step.inputs)
                outputs = tuple(prefix + result for result in step.outputs)
                self.steps.append(replace(step, inputs=inputs, outputs=outputs))
        return prefix + output

    def give(self, output: str, value: str) -> None:
        """Rename the result of the last operation to the name of an output."""
        made = self.steps.pop()
        assert isinstance(made, Operation) and made.outputs == (value,), value
        self.steps.append(replace(made, outputs=(output,)))

    def number(self, value: float) -> str:
        """A constant of the body's type."""
        return self._constant(np.asarray(value, self.dtype))

    def integer(self, value: int) -> str:
        """A constant int64."""
        return self._constant(np.asarray(value, np.int64))

    def integers(self, *values: int) -> str:
        """A constant list of int64: axes, sizes."""
        return self._constant(np.asarray(values, np.int64))

    def table(self, name: str, values: ArrayLike) -> str:
        """Add a parameter of the function; integers stay int64, floats get the body's type. Names must be unique."""
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
        """The body without the contents of its tables: equal for bodies that can share one function."""
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
