"""Units of the inputs and the output: validated, and turned into the scalings that a search tries first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.search.structure.dimensions import Array, Dimensionless, dimensionless
from kanserve.search.structure.scaling import Scaling, possible


@dataclass(frozen=True)
class Units:
    """The units of the inputs and the output, and their dimensional analysis."""

    inputs: tuple[str, ...]
    output: str
    analysis: Dimensionless

    def scalings(self, x: Array) -> tuple[Scaling, ...]:
        """The scalings y = Π x_i^p_i · F(groups) that the units allow at rows x (N, inputs)."""
        groups = self.analysis.groups
        if not all(possible(x, group) for group in groups):
            return ()
        values = self.analysis.group_inputs(x)
        return tuple(Scaling(powers, groups, values, 0.0) for powers in self.analysis.scales if possible(x, powers))


def check_units(units: Any, rows: Dataset) -> Units | None:
    """Validate the units; every column needs one, "1" if dimensionless, since a missing one was probably forgotten.
    Raises InputError if a name or unit is wrong, or no law can relate the units."""
    if units is None:
        return None
    if not isinstance(units, Mapping) or not all(isinstance(unit, str) for unit in units.values()):
        raise InputError(f"units must map names to texts, as in {{'m': 'kg', 'v': 'm/s'}}; got {units!r}.")
    names = (*rows.inputs, *rows.outputs)
    unknown = [name for name in units if name not in names]
    if unknown:
        raise InputError(f"units has {', '.join(unknown)}, which is not a column; the columns are {', '.join(names)}.")
    missing = [name for name in names if name not in units]
    if missing:
        raise InputError(f"units lacks {', '.join(missing)}: give all columns, with 1 for a dimensionless number.")
    *inputs, output = (units[name] for name in names)
    return Units(tuple(inputs), output, dimensionless(inputs, output))
