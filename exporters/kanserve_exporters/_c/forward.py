"""A row in C, from raw inputs to the values of all nodes, as `@predict` and the derivatives compute it. Categories and
missing values are encoded first; `@` is the model's prefix."""

from collections.abc import Sequence

import numpy as np

from kanserve.network.encoding import encodes
from kanserve.network.kan import Kan
from kanserve_exporters._c.layers import has_domain, is_affine, table
from kanserve_exporters._c.splines import integers
from kanserve_exporters._shared.expressions import Dialect, when
from kanserve_exporters._shared.layer_tables import Parts

_CATEGORIES = """
/* The number that the network sees for a raw value of input i. The code of a category becomes its number. What is
 * missing (NaN) or no category becomes the fill value, or infinity, which is refused, without one. */
static @real @encoded(int i, @real x)
{
    const int count = @category_count[i];
    if (x >= 0 && x < (@real)count && (@real)(int)x == x) return @category_values[@category_first[i] + (int)x];
    if (x != x || (count > 0 && x - x == 0)) return @is_filled[i] ? @fill_values[i] : (@real)INFINITY;
    return x;
}
"""

_MISSING = """
/* The number that the network sees for a raw value of input i: the fill value, if there is one, for NaN. */
static @real @encoded(int i, @real x)
{
    return x != x && @is_filled[i] ? @fill_values[i] : x;
}
"""

_NO_SLOPE = """
/* Whether derivatives by a raw value of input i are 0: those by categories, and by what is missing. */
static int @has_no_slope(int i, @real x)
{{
{body}}}
"""


def encoding(kan: Kan, dialect: Dialect, gradient: bool) -> list[str]:
    """The tables and functions of the encoding; empty if nothing is encoded."""
    if not encodes(kan):
        return []
    fills = [variable.fill_value for variable in kan.inputs]
    counts = [len(variable.categories) for variable in kan.inputs]
    blocks = ["\n", integers("is_filled", [int(fill is not None) for fill in fills])]
    blocks.append(table("fill_values", np.array([fill or 0.0 for fill in fills]), dialect))
    no_slope = "    (void)i;\n    return x != x;\n"
    if any(counts):
        starts = np.cumsum([0, *counts[:-1]]).tolist()
        numbers = np.array([number for variable in kan.inputs for number in variable.category_values])
        blocks += [integers("category_count", counts), integers("category_first", starts)]
        blocks.append(table("category_values", numbers, dialect))
        no_slope = "    return @category_count[i] > 0 || x != x;\n"
    blocks.append(_CATEGORIES if any(counts) else _MISSING)
    if gradient:
        blocks += ["\n#ifndef @NO_GRADIENT", _NO_SLOPE.format(body=no_slope), "#endif\n"]
    return blocks


def prepares(kan: Kan) -> bool:
    """Whether inputs are changed before the first layer: encoded, or shifted and scaled."""
    return encodes(kan) or is_affine(kan.input_shift, kan.input_scale)


def encode(kan: Kan, value: str) -> str:
    """The expression of the number that the network uses for a raw value of input i."""
    return f"@encoded(i, {value})" if encodes(kan) else value


def flatten_derivatives(kan: Kan, array: str, order: int) -> list[str]:
    """Statements that set the derivatives of this order to 0 for categories and missing values, which have none."""
    if not encodes(kan):
        return []
    size = "*".join(["@N_OUT", *["@N_IN"] * order])
    inputs = ["i % @N_IN", "i/@N_IN % @N_IN"][:order]
    condition = " || ".join(f"@has_no_slope({i}, x[{i}])" for i in inputs)
    return [f"for (i = 0; i < {size}; i++) if ({condition}) {array}[i] = 0;"]


def values(kan: Kan, layers: Sequence[Parts], places: Sequence[str], dialect: Dialect, fail: str) -> list[str]:
    """Statements that compute the nodes of each layer, inputs first, into `places`, from the row x. `fail` is the call
    for an error code, with the placeholder {}."""

    def check(place: str, count: int | str, code: str) -> str:
        return f"if (!@finite({place}, {count})) return {fail.format(code)};"

    shifted = is_affine(kan.input_shift, kan.input_scale)
    first = places[0]
    source = first if encodes(kan) else "x"
    value = f"({source}[i] - @input_shift[i])/@input_scale[i]" if shifted else f"{source}[i]"
    lines = [
        *when(encodes(kan), f"for (i = 0; i < @N_IN; i++) {first}[i] = {encode(kan, 'x[i]')};"),
        check(source, "@N_IN", "@ERROR_INPUT"),
        *when(value != f"{first}[i]", f"for (i = 0; i < @N_IN; i++) {first}[i] = {value};"),
        *when(shifted, check(first, "@N_IN", "@ERROR_RESULT")),
    ]
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        here, there, own = places[number], places[number + 1], has_domain(part, dialect)
        code = "outside ? @ERROR_DOMAIN : @ERROR_RESULT" if own else "@ERROR_RESULT"
        lines += [f"@layer_{number}({here}, {there}{', &outside' if own else ''});", check(there, layer.nodes, code)]
    return lines
