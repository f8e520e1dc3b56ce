"""A network as one Python module that imports NumPy only.

For the network exp(sin πx + y²) of shape [2, 1, 1] its middle is

    def _layer_0(v):
        z = numpy.zeros((1, v.shape[1]), DTYPE)
        z[0] += numpy.sin(3.141592653589793*v[0]) + _f_x2(v[1])
        return z

Values stand as (nodes, N), so that each edge is an expression of one contiguous row. The splines of a layer are one
table of local polynomials, evaluated for all edges and rows at once.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from kanserve.functions import SPECIAL
from kanserve.ir import Kan, Layer
from kanserve.options import ExportOptions
from kanserve_exporters import _numpy_template as template
from kanserve_exporters import _special
from kanserve_exporters._expressions import Dialect, body, call, decimals, helper, needs_helper, term, total
from kanserve_exporters._formula_text import formula_lines
from kanserve_exporters._identifiers import module_name
from kanserve_exporters._layers import Parts, Splines, parts

Array = NDArray[np.float64]

_DENSE_OUTPUTS, _DENSE_PIECES = 8, 16  # at least and at most, for one product of matrices to be faster
_NUMBERS_AT_A_TIME = 2**20


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as a module; ExportError when a constant does not fit into the precision."""
    dialect = Dialect("numpy", options.precision, "_")
    dtype = np.float32 if dialect.single else np.float64
    layers = [parts(layer, float(np.finfo(dtype).max)) for layer in kan.layers]
    splines = [part.splines for part in layers if part.splines]
    blocks = [_begin(kan, layers, np.dtype(dtype).name)]
    blocks += [template.PREDICT_PROBA] if kan.classes else []
    blocks.append(_predict(kan, dialect))
    blocks += [template.POWERS] if splines else []
    blocks += [template.DENSE] if any(_dense(one) for one in splines) else []
    blocks += [template.SPARSE] if any(not _dense(one) for one in splines) else []
    blocks += _helpers(layers, dialect)
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        blocks.append(_layer(number, layer, part, dialect))
    text = "\n".join(block.strip("\n") + "\n\n" for block in blocks).rstrip("\n") + "\n"
    return {f"{module_name(options.name)}.py": text.encode("ascii")}


def _begin(kan: Kan, layers: list[Parts], dtype: str) -> str:
    numbers = [kan.shape[0] + kan.shape[-1]]
    for part in layers:
        if part.splines:
            inputs, pieces, width, outputs = part.splines.coefficients.shape
            numbers.append(inputs * width * (pieces if _dense(part.splines) else outputs))
    return template.BEGIN.format(
        shape=list(kan.shape),
        inputs=kan.shape[0],
        outputs=kan.shape[-1],
        dtype=dtype,
        what="scores" if kan.classes else "outputs",
        probabilities=template.PROBABILITIES.format(outputs=kan.shape[-1]) if kan.classes else "",
        input_names=_texts(one.name for one in kan.inputs),
        input_units=_texts(one.unit for one in kan.inputs),
        input_ranges=_tuple(f"({_end(one.low)}, {_end(one.high)})" for one in kan.inputs),
        output_names=_texts(one.name for one in kan.outputs),
        output_units=_texts(one.unit for one in kan.outputs),
        classes=_texts(kan.classes),
        rows=max(1, _NUMBERS_AT_A_TIME // max(numbers)),
        # Escaped as in a string, which a docstring is.
        formula="\n".join("    " + line.replace('"', '\\"') for line in formula_lines(kan)),
    )


def _predict(kan: Kan, dialect: Dialect) -> str:
    lines = ["def _predict(v):"]
    tables = ""
    for end, shift, scale in (
        ("INPUT", kan.input_shift, kan.input_scale),
        ("OUTPUT", kan.output_shift, kan.output_scale),
    ):
        if (shift != 0).any() or (scale != 1).any():
            tables += (
                f"_{end}_SHIFT = {_array(shift[:, None], dialect)}\n_{end}_SCALE = {_array(scale[:, None], dialect)}\n"
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


def _helpers(layers: list[Parts], dialect: Dialect) -> list[str]:
    """The functions that NumPy has not; only those that are used."""
    used = {edge.function for part in layers for _, _, edge in part.terms} - {"x"}
    used |= {"silu"} if any(part.splines and part.splines.base == "silu" for part in layers) else set()
    return ([_special.numpy_module()] if used & {*SPECIAL} else []) + [
        f"def {helper(name, dialect)}(x):\n    return {body(name, dialect)}"
        for name in sorted(used)
        if needs_helper(name, dialect)
    ]


def _layer(number: int, layer: Layer, part: Parts, dialect: Dialect) -> str:
    tables, lines = [], []
    if part.constants.any():
        tables.append(f"_CONSTANTS_{number} = {_array(part.constants[:, None], dialect)}")
        lines.append(f"z = numpy.repeat(_CONSTANTS_{number}, v.shape[1], axis=1)")
    else:
        lines.append(f"z = numpy.zeros(({layer.subnodes}, v.shape[1]), DTYPE)")
    if part.splines:
        tables += _spline_tables(number, part.splines, dialect)
        lines += _spline_lines(number, layer, part.splines, dialect)
    sums: dict[int, list[str]] = {}
    for j, i, edge in part.terms:
        sums.setdefault(j, []).append(term(edge, f"v[{i}]", dialect))
    for j, terms in sums.items():
        one_line = total(terms).replace("\n", "\n       ")
        lines.append(f"z[{j}] += {one_line}" if "\n" not in one_line else f"z[{j}] += (\n        {one_line}\n    )")
    lines += _nodes(number, layer, tables, dialect)
    text = "\n".join(["", "", f"def _layer_{number}(v):", *(f"    {line}" for line in lines)])
    return ("\n".join(tables) + text).strip("\n")


def _spline_tables(number: int, splines: Splines, dialect: Dialect) -> list[str]:
    inputs, count, width, outputs = splines.coefficients.shape
    table = splines.coefficients.reshape(inputs * count, width, outputs)
    tables = [
        f"_SPLINES_{number} = (\n    {_array(splines.breaks, dialect)},\n    {_array(splines.origins, dialect)},\n"
        f"    {dialect.literal(splines.widest)},\n    {_array(table, dialect)},\n)"
    ]
    if splines.base != "zero":
        tables.append(f"_BASE_{number} = {_array(splines.base_weight.T, dialect)}")
    return tables


def _spline_lines(number: int, layer: Layer, splines: Splines, dialect: Dialect) -> list[str]:
    some_inputs, some_subnodes = len(splines.inputs) < layer.inputs, len(splines.subnodes) < layer.subnodes
    target = f"z[{splines.subnodes.tolist()}]" if some_subnodes else "z"
    lines = [f"x = v[{splines.inputs.tolist()}]" if some_inputs else "x = v"]
    kind = "dense" if _dense(splines) else "sparse"
    lines.append(f"{target} += _{kind}_splines(x, *_SPLINES_{number})")
    if splines.base != "zero":
        base = call("silu", "x", dialect) if splines.base == "silu" else "x"
        lines.append(f"{target} += _BASE_{number} @ {base}")
    return lines


def _nodes(number: int, layer: Layer, tables: list[str], dialect: Dialect) -> list[str]:
    """Statements that return the nodes of the subnodes z; constants go to `tables`."""
    lines = []
    starts = (np.cumsum(layer.arity) - layer.arity).tolist()
    for name, values, line in (
        ("SUBNODE_SCALE", layer.subnode_scale - 1, "z *= "),
        ("SUBNODE_BIAS", layer.subnode_bias, "z += "),
        (
            "",
            layer.arity - 1,
            f"z = numpy.multiply.reduceat(z, {starts}, axis=0)",
        ),
        ("NODE_SCALE", layer.node_scale - 1, "z *= "),
        ("NODE_BIAS", layer.node_bias, "z += "),
    ):
        if values.any():
            if name:
                tables.append(f"_{name}_{number} = {_array(getattr(layer, name.lower())[:, None], dialect)}")
            lines.append(f"{line}_{name}_{number}" if name else line)
    return [*lines, "return z"]


def _dense(splines: Splines) -> bool:
    _, count, _, outputs = splines.coefficients.shape
    return bool(outputs >= _DENSE_OUTPUTS and count <= _DENSE_PIECES)


def _array(values: Array, dialect: Dialect) -> str:
    numbers = ", ".join(decimals(values, dialect.precision))
    return f"numpy.array([{numbers}], DTYPE).reshape({values.shape})"


def _texts(values: Iterable[str]) -> str:
    return _tuple(ascii(one) for one in values)


def _tuple(words: Iterable[str]) -> str:
    return "(" + "".join(f"{word}, " for word in words).rstrip(" ") + ")"


def _end(value: float) -> str:
    return repr(value) if np.isfinite(value) else ("-" if value < 0 else "") + "numpy.inf"
