"""A network as one Python module that imports NumPy only.

For the network exp(sin πx + y²) of shape [2, 1, 1] its middle is

    def _layer_0(v):
        z = numpy.zeros((1, v.shape[1]), DTYPE)
        z[0] += numpy.sin(3.141592653589793*v[0]) + _f_x2(v[1])
        return z

Values have shape (nodes, N), so that each edge is an expression of one contiguous row. The splines of a layer are one
table, evaluated for all edges and rows at once; many symbolic edges are computed function by function. A single row of
a small network is computed with Python floats instead.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import count, repeat

import numpy as np

from kanserve.errors import ExportError
from kanserve.network.encoding import encodes
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.network.own_functions import by_values, modules
from kanserve.network.spellings import SPECIAL
from kanserve_exporters._numpy import template
from kanserve_exporters._numpy.layers import layer_code, row_size
from kanserve_exporters._numpy.row import encoding, is_small, row_code
from kanserve_exporters._numpy.splines import Plan, array, plan, tabulate, units
from kanserve_exporters._shared import special_functions
from kanserve_exporters._shared.expressions import Dialect, primitives, python_helpers, when
from kanserve_exporters._shared.layer_tables import Parts, functions_of, refuse_underflow
from kanserve_exporters._shared.source_text import formula_lines, module_name

_NUMBERS_AT_A_TIME = 3 * 2**16  # about the size of the L2 cache
_FEWEST_ROWS = 16


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as a module. Raises ExportError if a constant does not fit the precision."""
    refuse_underflow(kan, options.floating)
    dialect = Dialect("numpy", options.floating, "_")
    dtype = np.float32 if dialect.single else np.float64
    small = is_small(kan)
    layers: list[Parts] = []
    plans: list[Plan | None] = []
    for number, layer in enumerate(kan.layers):
        unit = units(layer, options.floating)
        in_units, part = tabulate(layer, unit, number, options.floating)
        layers.append(part)
        plans.append(plan(in_units, part.splines, unit, small=small) if part.splines else None)
    forms = {layer_plan.form for layer_plan in plans if layer_plan}
    one_row = row_code(kan, layers, plans, dialect) if small else ""
    blocks = [_begin(kan, layers, plans, np.dtype(dtype).name, one_row, bool(options.intervals))]
    intervals = {interval.level: interval.half_widths for interval in options.intervals}
    scales = {interval.level: interval.scales for interval in options.intervals if interval.scales}
    intervals_template = template.SCALED_INTERVALS if scales else template.INTERVALS
    used = functions_of(layers)
    special = primitives(used) & {*SPECIAL}
    blocks += [
        *when(kan.classes, template.PREDICT_PROBA),
        *when(intervals, intervals_template.format(intervals=intervals, scales=scales)),
        *([encoding(kan, dialect)] if encodes(kan) else []),
        _predict(kan, dialect),
        *when(forms & {"dense", "sparse"}, template.POWERS),
        *(text for form, text in template.SPLINES.items() if form in forms),
        *when(special, special_functions.numpy_module(special)),
        *python_helpers(used, dialect),
        *map(layer_code, count(), kan.layers, layers, plans, repeat(dialect)),
        *when(small, template.LARGEST, *when(any(plans), template.PIECES), one_row),
    ]
    text = "\n".join(block.strip("\n") + "\n\n" for block in blocks).rstrip("\n") + "\n"
    return {f"{module_name(options.name)}.py": text.encode("ascii")}


def _begin(kan: Kan, layers: list[Parts], plans: list[Plan | None], dtype: str, row: str, intervals: bool) -> str:
    numbers = [kan.shape[0] + kan.shape[-1]]
    numbers += [max(chosen.row if chosen else 0, row_size(part)) for part, chosen in zip(layers, plans, strict=True)]
    foreign = _modules(layers, row)
    return template.BEGIN.format(
        shape=list(kan.shape),
        inputs=kan.shape[0],
        outputs=kan.shape[-1],
        dtype=dtype,
        imports=_imports(row),
        foreign="".join(f"import {module}\n" for module in foreign),
        needs=" and ".join(["NumPy", *foreign]) if foreign else "NumPy only",
        one_row=template.ONE_ROW.format(inputs=kan.shape[0]) if row else "",
        what="scores" if kan.classes else "outputs",
        probabilities=(template.PROBABILITIES.format(outputs=kan.shape[-1]) if kan.classes else "")
        + (template.INTERVALS_HELP if intervals else ""),
        input_names=_texts(variable.name for variable in kan.inputs),
        input_units=_texts(variable.unit for variable in kan.inputs),
        input_ranges=_tuple(f"({_end(variable.low)}, {_end(variable.high)})" for variable in kan.inputs),
        output_names=_texts(output.name for output in kan.outputs),
        output_units=_texts(output.unit for output in kan.outputs),
        classes=_texts(kan.classes),
        rows=max(_FEWEST_ROWS, _NUMBERS_AT_A_TIME // max(numbers)),
        # Escaped, since it goes into a docstring.
        formula="\n".join("    " + line.replace('"', '\\"') for line in formula_lines(kan)),
    )


def _imports(row: str) -> str:
    lines = ["import math\n"] if re.search(r"\bmath\.", row) else []
    lines += ["from bisect import bisect_right\n"] if "bisect_right(" in row else []
    return "".join(lines) + ("\n" if lines else "")


def _modules(layers: list[Parts], row: str) -> list[str]:
    """The modules that functions registered by their values need."""
    own = [by_values(name) for name in {edge.function for part in layers for _, _, edge in part.terms}]
    languages = ("numpy", "python") if row else ("numpy",)
    return modules(
        registered.spelling(language, ExportError) for registered in own if registered for language in languages
    )


def _predict(kan: Kan, dialect: Dialect) -> str:
    lines = ["def _predict(v):", *(["    v = _encoded(v)"] if encodes(kan) else [])]
    tables = ""
    for end, shift, scale in (
        ("INPUT", kan.input_shift, kan.input_scale),
        ("OUTPUT", kan.output_shift, kan.output_scale),
    ):
        if (shift != 0).any() or (scale != 1).any():
            tables += (
                f"_{end}_SHIFT = {array(shift[:, None], dialect)}\n_{end}_SCALE = {array(scale[:, None], dialect)}\n"
            )
    if "_INPUT" in tables:
        lines.append("    v = (v - _INPUT_SHIFT) / _INPUT_SCALE")
    lines.append("    bad = ~numpy.isfinite(v).all(axis=0)")
    for number in range(len(kan.layers)):
        lines.append(f"    v = _layer_{number}(v)")
        lines.append("    bad |= ~numpy.isfinite(v).all(axis=0)")
    if "_OUTPUT" in tables:
        lines.append("    v = _OUTPUT_SCALE * v + _OUTPUT_SHIFT")
        lines.append("    bad |= ~numpy.isfinite(v).all(axis=0)")
    lines += ["    v[:, bad] = numpy.nan", "    return v"]
    return tables + ("\n\n" if tables else "") + "\n".join(lines)


def _texts(values: Iterable[str]) -> str:
    return _tuple(ascii(value) for value in values)


def _tuple(words: Iterable[str]) -> str:
    return "(" + "".join(f"{word}, " for word in words).rstrip(" ") + ")"


def _end(value: float) -> str:
    return repr(value) if np.isfinite(value) else ("-" if value < 0 else "") + "numpy.inf"
