"""Units of the inputs and of the output, as a user gives them: checked, and as a scaling to begin a search with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.search.structure.dimensions import Array, Dimensionless, dimensionless
from kanserve.search.structure.scaling import Scaling, possible


@dataclass(frozen=True)
class Units:
    """Of each input and of the output, and what they say about the law."""

    inputs: tuple[str, ...]
    output: str
    analysis: Dimensionless

    def scalings(self, x: Array) -> tuple[Scaling, ...]:
        """y = a product of powers · F(groups), for each such product that these rows x (N, inputs) allow."""
        groups = self.analysis.groups
        if not all(possible(x, group) for group in groups):
            return ()
        values = self.analysis.grouped(x)
        return tuple(Scaling(powers, groups, values, 0.0) for powers in self.analysis.scales if possible(x, powers))


def checked_units(units: Any, rows: Dataset) -> Units | None:
    """InputError for no mapping, a name that is no column, a column without a unit, and units that no law can relate.

    A column that is left out is more often forgotten than a pure number, and a wrong unit would be a wrong law: so all
    are given, "1" for a pure number.
    """
    if units is None:
        return None
    if not isinstance(units, Mapping) or not all(isinstance(unit, str) for unit in units.values()):
        raise InputError(f"units are texts by name, as in {{'m': 'kg', 'v': 'm/s'}}; got {units!r}.")
    names = (*rows.inputs, *rows.outputs)
    unknown = [name for name in units if name not in names]
    if unknown:
        raise InputError(f"units has {', '.join(unknown)}, which is no column; the columns are {', '.join(names)}.")
    missing = [name for name in names if name not in units]
    if missing:
        raise InputError(f"units lacks {', '.join(missing)}: give all columns, with 1 for a pure number.")
    *inputs, output = (units[name] for name in names)
    return Units(tuple(inputs), output, dimensionless(inputs, output))
