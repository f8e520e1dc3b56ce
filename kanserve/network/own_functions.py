"""Functions that a user has added to the table of functions, in this process: given by a formula of known functions, or
by values (a callable over arrays) with a spelling in each language that is to write them (`by_values`)."""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, KanserveError, reason
from kanserve.network.expression import Primitive, set_primitive
from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

LANGUAGES = ("c", "excel", "fortran", "javascript", "julia", "matlab", "numpy", "onnx", "python", "rust", "sql")
"""In which a function of the user's may be spelled; "matlab" is Octave too."""

_WITHIN: Mapping[str, Callable[[Array], NDArray[np.bool_]]] = {
    "x >= 0": lambda x: x >= 0,
    "x > 0": lambda x: x > 0,
    "x != 0": lambda x: x != 0,
    "-1 <= x <= 1": lambda x: np.abs(x) <= 1,
    "-1 < x < 1": lambda x: np.abs(x) < 1,
}


@dataclass(frozen=True)
class OwnFunction:
    """The arguments of `kanserve.register_function`: a formula, or `numpy` with its companions."""

    name: str
    formula: str | None = None
    numpy: Callable[[Array], Array] | None = None
    derivative: Callable[[Array], Array] | str | None = None
    sympy: Callable[[Any], Any] | str | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    """By language, C among them."""
    domain: str = ""
    complexity: float = 3.0

    def arguments(self) -> dict[str, Any]:
        """The arguments of `kanserve.register_function`, to repeat the call in another process."""
        return dict(vars(self))

    def spelling(self, language: str, error: type[KanserveError]) -> str:
        """The function in a language, as an expression in x. Without one, raises `error` with what to supply."""
        if language not in self.spellings:
            wanted = 'c="..."' if language == "c" else f'spellings={{"{language}": "..."}}'
            what = "an expression in x or the statements of a C function" if language == "c" else "an expression in x"
            what = "calls of ONNX operators on x, as Mul(x, Sigmoid(x))" if language == "onnx" else what
            raise error(
                f"The function {self.name!r} has no spelling for {language}, as it was registered by its values. Give "
                f"kanserve.register_function {wanted}, {what}."
            )
        return self.spellings[language]

    def c_function(self, name: str, error: type[KanserveError]) -> str:
        """The definition of a C function of doubles with this name; NaN outside the domain."""
        spelling = textwrap.dedent(self.spelling("c", error)).strip()
        body = spelling if re.search(r"\breturn\b", spelling) else f"return {spelling};"
        if self.domain:
            inside = re.sub(r"(\S+ \S+) x (\S+ \S+)", r"\1 x && x \2", self.domain)
            body = f"if (!({inside})) return (double)NAN;\n{body}"
        return f"static double {name}(double x)\n{{\n{textwrap.indent(body, '    ')}\n}}\n"


OWN: dict[str, OwnFunction] = {}
"""By name."""


class Elementwise:
    """A user's function of arrays, called with finite numbers in its domain on one axis; NaN elsewhere. Array-like
    objects such as dual numbers are handled by NumPy's protocol `__array_function__`."""

    def __init__(self, name: str, function: Callable[[Array], Array], domain: str) -> None:
        self.name = name
        self.function = function
        self._within = _WITHIN.get(domain)

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, np.ndarray) and hasattr(x, "__array_function__"):
            return x.__array_function__(self, (type(x),), (x,), {})
        values = np.asarray(x, np.float64)
        flat = values.ravel()
        inside = np.isfinite(flat)
        if self._within is not None:
            inside &= self._within(flat)
        if inside.all() and len(flat):
            return self.function(flat).reshape(values.shape)
        result = np.full(flat.shape, np.nan)
        if inside.any():
            result[inside] = self.function(flat[inside])
        return result.reshape(values.shape)


class Slope(Elementwise):
    """The derivative as a callable. It can be differentiated again if it consists of NumPy operations only."""

    def __call__(self, x: Any) -> Any:
        if isinstance(x, np.ndarray) or not hasattr(x, "__array_function__"):
            return super().__call__(x)
        try:
            return self.function(x)
        except Exception as error:
            raise DataError(
                f"The derivative of {self.name!r} is a callable that takes arrays alone, so that neither its own "
                f'derivative nor its C source is known ({reason(error)}). Give register_function derivative="...", a '
                f"formula in x, which may have {self.name}(x) and other registered functions."
            ) from error


def add_row(row: Function, own: OwnFunction, primitive: Primitive | None = None) -> None:
    """Add a row to the table, with its primitive if it was registered by its values."""
    set_primitive(row.name, primitive)
    FUNCTIONS[row.name] = row
    OWN[row.name] = own


def remove_row(name: str) -> None:
    del FUNCTIONS[name], OWN[name]
    set_primitive(name, None)


def by_values(name: str) -> OwnFunction | None:
    """The function of this name if it was registered by its values, else None."""
    own = OWN.get(name) if OWN else None
    return own if own is not None and own.numpy is not None else None


def modules(spellings: Iterable[str]) -> list[str]:
    """The modules that the spellings import, other than math and numpy: scipy.special for scipy.special.dawsn(x)."""
    found = {module for text in spellings for module in re.findall(r"([A-Za-z_][\w.]*)\.[A-Za-z_]\w*\(", text)}
    return sorted(found - {"math", "numpy", "x"})


def own_functions(kan: Kan) -> list[str]:
    """The names of registered functions on a network's edges, which compiled kernels and other libraries lack."""
    if not OWN:
        return []
    return sorted({name for layer in kan.layers for name in layer.functions.ravel().tolist() if name in OWN})
