"""A network as one ES module without imports: P.mjs, for node and browsers, where P is made from the model's name.

For the network exp(sin πx + y²) of shape [2, 1, 1] its middle is

    function layer0(v) {
        const z = new Float64Array(1);
        z[0] += Math.sin(3.141592653589793*v[0]) + _f_x2(v[1]);
        return z;
    }

Named edges are code, splines a table of their knots and coefficients, which one function evaluates as the reference
does: no polynomials, which would be k + 1 times as many numbers. JavaScript's numbers are doubles.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.encoding import encodes
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, Layer
from kanserve.network.serialization import variable_out
from kanserve_exporters._c.layers import is_affine, nodes
from kanserve_exporters._shared.expressions import Dialect, body, decimals, helper, needs_helper, term, total, wrap
from kanserve_exporters._shared.layer_tables import Parts, Splines, parts
from kanserve_exporters._shared.source_text import c_identifier, formula_lines

Array = NDArray[np.float64]

_DIALECT = Dialect("javascript", "double", "_")


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """Write the network as a JavaScript module.

    Parameters
    ----------
    kan : Kan
        The network.
    options : ExportOptions
        The name, from which the file is named. The precision must be "double".

    Returns
    -------
    mapping of str to bytes
        One file.

    Raises
    ------
    ExportError
        Another precision was asked for.
    """
    if options.floating != "double":
        raise ExportError(
            'JavaScript computes in double. Export with precision="double", or onnx_graph or wasm_module in float.'
        )
    with np.errstate(all="ignore"):  # of polynomials that are not written
        layers = [parts(layer, float(np.finfo(np.float64).max)) for layer in kan.layers]
    splines = any(part.splines for part in layers)
    blocks = [_BEGIN.replace("$SHAPE$", str(list(kan.shape))).replace("$WHAT$", "scores" if kan.classes else "outputs")]
    blocks += [_PROBABILITIES] if kan.classes else []
    blocks += [_information(kan, options.name), _row(kan)]
    blocks += _functions(layers)
    blocks += [_SPLINES] if splines else []
    blocks += [_layer(number, layer, part) for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True))]
    text = "\n\n".join(block.strip("\n") for block in blocks) + "\n"
    return {f"{c_identifier(options.name)}.mjs": text.encode("ascii")}


def _information(kan: Kan, name: str) -> str:
    """The network's description as JSON, in which no text can end the script of a page."""

    values = {
        "name": name,
        "shape": list(kan.shape),
        "inputs": [variable_out(variable) for variable in kan.inputs],
        "outputs": [variable_out(output) for output in kan.outputs],
        "classes": list(kan.classes),
        "formula": formula_lines(kan),
    }
    lines = [
        f"    {key}: {json.dumps(value, allow_nan=False)},\n".replace("<", "\\u003c") for key, value in values.items()
    ]
    return f"export const information = {{\n{''.join(lines)}}};"


def _row(kan: Kan) -> str:
    """The function of one row, and the tables for inputs and outputs."""
    tables, first, last = [], "", ""
    if encodes(kan):
        tables.append(_encoding(kan))
        first = ".map(encoded)"
    if is_affine(kan.input_shift, kan.input_scale):
        tables += [_table("inputShift", kan.input_shift), _table("inputScale", kan.input_scale)]
        first += ".map((x, i) => (x - inputShift[i])/inputScale[i])"
    if is_affine(kan.output_shift, kan.output_scale):
        tables += [_table("outputShift", kan.output_shift), _table("outputScale", kan.output_scale)]
        last = ".map((x, q) => outputScale[q]*x + outputShift[q])"
    layers = ", ".join(f"layer{number}" for number in range(len(kan.layers)))
    text = _ROW.replace("$LAYERS$", layers).replace("$FIRST$", first).replace("$LAST$", last)
    return "\n".join([*tables, text.replace("$INPUTS$", str(kan.shape[0])).replace("$OUTPUTS$", str(kan.shape[-1]))])


def _encoding(kan: Kan) -> str:
    """The function that replaces missing values and category codes."""
    fills = ", ".join("NaN" if variable.fill_value is None else _number(variable.fill_value) for variable in kan.inputs)
    numbers = ", ".join(f"[{', '.join(map(_number, variable.category_values))}]" for variable in kan.inputs)
    return f"const fills = [{fills}], categoryValues = [{numbers}];\n{_ENCODED}"


def _number(value: float) -> str:
    return decimals(np.array([value]), "double")[0]


def _functions(layers: list[Parts]) -> list[str]:
    """The helpers for used functions that JavaScript's Math lacks."""
    used = {edge.function for part in layers for _, _, edge in part.terms} - {"x"}
    used |= {"silu"} if any(part.splines and part.splines.base == "silu" for part in layers) else set()
    return [
        f"function {helper(name, _DIALECT)}(x) {{\n" + "".join(f"    {line}\n" for line in body(name, _DIALECT)) + "}"
        for name in sorted(used)
        if needs_helper(name, _DIALECT)
    ]


def _layer(number: int, layer: Layer, part: Parts) -> str:
    """The tables of a layer and its function."""
    tables = [_table(f"constants{number}", part.constants)] if part.constants.any() else []
    begin = f"constants{number}.slice()" if tables else f"new Float64Array({layer.subnodes})"
    lines = [f"const z = {begin};"]
    if part.splines:
        tables.append(_splines(number, layer, part.splines))
        lines.append(f"addSplines(v, z, splines{number});")
    sums: dict[int, list[str]] = {}
    for j, i, edge in part.terms:
        sums.setdefault(j, []).append(term(edge, f"v[{i}]", _DIALECT))
    for j, terms in sums.items():  # a statement a line: of thousands of terms in one, engines run out of stack
        lines += [f"z[{j}] += {line.strip().removeprefix('+ ')};" for line in total(terms).split("\n")]
    if made := nodes(layer, _DIALECT):  # C's statements, which are JavaScript's
        lines += [f"const u = new Float64Array({layer.nodes});", *(["let j;"] if "for (" in "".join(made) else [])]
    lines += [*made, "return u;"] if made else ["return z;"]
    text = "".join(f"    {line}\n" for line in lines)
    return "\n".join([*tables, f"function layer{number}(v) {{\n{text}}}"])


def _splines(number: int, layer: Layer, splines: Splines) -> str:
    chosen = layer.coefficients[np.ix_(splines.subnodes, splines.inputs)].transpose(1, 2, 0)
    base = {"zero": "null", "identity": "(x) => x", "silu": helper("silu", _DIALECT)}[splines.base]
    knots = ", ".join(_numbers(row) for row in layer.knots[splines.inputs])
    lines = [
        f"order: {layer.order}, straight: {json.dumps(layer.extrapolation == 'linear')}, base: {base},",
        f"inputs: {splines.inputs.tolist()},",
        f"subnodes: {splines.subnodes.tolist()},",
        f"knots: [{knots}],",
        f"coefficients: {_numbers(chosen)},",
        f"weights: {'null' if splines.base == 'zero' else _numbers(splines.base_weight)},",
    ]
    return f"const splines{number} = {{\n" + "".join(f"    {line}\n" for line in lines) + "};"


def _table(name: str, values: Iterable[float]) -> str:
    return f"const {name} = {_numbers(values)};"


def _numbers(values: Iterable[float]) -> str:
    return f"new Float64Array([{wrap(decimals(np.asarray(values), 'double'))}])"


_BEGIN = """\
/* A Kolmogorov-Arnold network of shape $SHAPE$, written by kanserve. Imports nothing; for node and browsers.
 *
 * predict(rows) gives the $WHAT$ of each row of raw features, an array of arrays. Rows are arrays or typed arrays of
 * numbers. One in which an input, a value on the way or an output is not finite is NaN in all of its outputs.
 * `information` has names, units and ranges (of the training data, null where not known).
 */

export function predict(rows) {
    if (!Array.isArray(rows)) throw new TypeError("predict takes an array of rows, each an array of numbers.");
    return Array.from(rows, (row, n) => {
        check(row, n);
        return predictRow(row);
    });
}

function check(row, n) {
    const wanted = () => `${inputs} numbers (${information.inputs.map((one) => one.name).join(", ")})`;
    if (!Array.isArray(row) && !ArrayBuffer.isView(row)) {
        throw new TypeError(`Row ${n} must be an array of ${wanted()}, got ${typeof row}.`);
    }
    if (row.length !== inputs) throw new RangeError(`Row ${n} must have ${wanted()}, got ${row.length}.`);
    for (let i = 0; i < inputs; i++) {
        if (typeof row[i] !== "number") {
            throw new TypeError(`Row ${n} must hold numbers, and NaN where one is missing; number ${i} is ${row[i]}.`);
        }
    }
}
"""

_ENCODED = """
/* The number that the network sees for a raw value of input i. The code of a category becomes its number. What is
 * missing (NaN) or no category becomes the fill value, or NaN without one. */
function encoded(x, i) {
    const numbers = categoryValues[i];
    if (x >= 0 && x < numbers.length && Number.isInteger(x)) return numbers[x];
    return Number.isNaN(x) || (numbers.length > 0 && Number.isFinite(x)) ? fills[i] : x;
}
"""

_PROBABILITIES = """
/* The probabilities of the classes, of each row. */
export function predictProba(rows) {
    return predict(rows).map((scores) => {
        const most = scores.reduce((a, b) => Math.max(a, b));
        const powers = scores.map((score) => Math.exp(score - most));
        const sum = powers.reduce((a, b) => a + b);
        return powers.map((power) => power/sum);
    });
}
"""

_ROW = """
const inputs = $INPUTS$, outputs = $OUTPUTS$, layers = [$LAYERS$];

function predictRow(row) {
    let v = new Float64Array(row)$FIRST$;
    for (const layer of layers) {
        if (!finite(v)) return new Array(outputs).fill(NaN);
        v = layer(v);
    }
    const y = finite(v) ? Array.from(v)$LAST$ : [NaN];
    return finite(y) ? y : new Array(outputs).fill(NaN);
}

function finite(v) {
    for (let n = 0; n < v.length; n++) if (!Number.isFinite(v[n])) return false;
    return true;
}
"""

_SPLINES = """
/* Adds to z the splines of a layer at v. Coefficients lie by inputs, basis functions and subnodes. */
function addSplines(v, z, { order, straight, base, inputs, subnodes, knots, coefficients, weights }) {
    const w = new Float64Array(order + 1), count = knots[0].length - order - 1, outputs = subnodes.length;
    const sums = new Float64Array(outputs);
    for (let i = 0; i < inputs.length; i++) {
        const x = v[inputs[i]], t = knots[i], end = t[count];
        if (base) {
            const b = base(x);
            for (let j = 0; j < outputs; j++) sums[j] += b*weights[i*outputs + j];
        }
        if (!straight && !(t[0] <= x && x < t[t.length - 1])) continue;
        const near = straight ? Math.min(Math.max(x, t[order]), end) : x;
        const place = interval(t, near, end);
        basis(w, order, t, place, near, x - near);
        for (let m = 0; m <= order; m++) {
            const row = place - order + m;
            if (row < 0 || row >= count) continue;
            const weight = w[m], first = (i*count + row)*outputs;
            for (let j = 0; j < outputs; j++) sums[j] += weight*coefficients[first + j];
        }
    }
    for (let j = 0; j < outputs; j++) z[subnodes[j]] += sums[j];
}

/* The number of the knot below x; the end of the range belongs to the last interval in it. */
function interval(t, x, end) {
    let low = 0, high = t.length - 1;
    while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (x === end ? t[middle] < x : t[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

/* The basis functions that are not 0 in an interval, at x, by the recursion of Cox and de Boor, and `beyond` times
 * their slopes. Those of which a knot is missing come out as NaN and have no coefficient. */
function basis(w, order, t, place, x, beyond) {
    w[0] = 1;
    for (let degree = 1; degree <= order; degree++) {
        let before = 0;
        for (let m = 0; m < degree; m++) {
            const right = t[place + m + 1], left = t[place + m + 1 - degree];
            const part = w[m]/(right - left), slope = degree === order ? degree*part*beyond : 0;
            w[m] = before + ((right - x)*part - slope);
            before = (x - left)*part + slope;
        }
        w[degree] = before;
    }
}
"""
