"""A network as C99: P.h, P.c, P_test.c and build files, where P is an identifier made from the model's name.

For the network exp(sin πx + y²) of shape [2, 1, 1], called `hello`, the middle of hello.c is

    static void hello_layer_0_0(const hello_real *v, hello_real *z)
    {
        z[0] += sin(3.141592653589793*v[0])
+hello_fx2(v[1]);
    }

    static void hello_layer_0(const hello_real *v, hello_real *u)
    {
        hello_real z[1];
        int j;
        for (j = 0; j < 1; j++) z[j] = 0;
        hello_layer_0_0(v, z);
        for (j = 0; j < 1; j++) u[j] = z[j];
    }

The code keeps the layers: a flattened formula would be twenty times longer. The symbolic edges of a layer are code, at
most 200 per function, because compilers take more than linear time. Its splines are a table of coefficients, outputs
side by side; for each input, the k + 1 rows are summed whose basis functions are not 0 there.

There are two forms of the spline code. The plain one is C99 that gives the same bits on every machine; `-DP_FAST` takes
tiles of rows, with the compiler's vector types, and rounds differently. Both refuse the same rows with the same codes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network import serialization
from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.encoding import encodes
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import CForm, ExportOptions
from kanserve.network.kan import Kan
from kanserve.network.own_functions import OWN
from kanserve.network.rounding_error import allow, rounding, scale, steady_rows
from kanserve_exporters._c import columns as c_columns
from kanserve_exporters._c import derivatives as c_derivatives
from kanserve_exporters._c import gradient as c_gradient
from kanserve_exporters._c import gradient_template as c_gradient_template
from kanserve_exporters._c import hessian as c_hessian
from kanserve_exporters._c import hessian_template as c_hessian_template
from kanserve_exporters._c import template, tiles
from kanserve_exporters._c.forward import encoding, prepares, values
from kanserve_exporters._c.grids import rows
from kanserve_exporters._c.layers import decimal_list, has_domain, is_affine, layer_code, table
from kanserve_exporters._c.splines import spline_functions
from kanserve_exporters._integers.source import integer_files
from kanserve_exporters._shared import special_functions
from kanserve_exporters._shared.expressions import Dialect, body, domain, helper, inner, needs_helper, own_name, when
from kanserve_exporters._shared.layer_tables import Parts, functions_of, parts, refuse_underflow
from kanserve_exporters._shared.source_text import c_identifier, formula_lines

_HEADER = """
/* Half the width of the {percent} % prediction intervals: a new value of output q is within y[q] +/- @{name}[q] with at
 * least that probability, if its row is drawn as those were on which this was measured. */
extern const @real @{name}[@N_OUT];
"""


_SCALED_HEADER = """
/* The {percent} % prediction intervals: a new value of output q is within y[q] +/- half[q] with at least that
 * probability, if its row is drawn as those were on which this was measured. @{name} has the mean of half. */
extern const @real @{name}[@N_OUT];
void @{name}_half_widths(const @real y[@N_OUT], @real half[@N_OUT]);
"""
# Of each output, the factors at some values: linear between, constant beyond, NaN at NaN.
_SCALED_CODE = """
void @{name}_half_widths(const @real y[@N_OUT], @real half[@N_OUT])
{{
    static const @TABLE int first[@N_OUT + 1] = {{{first}}};
    static const @TABLE @real at[] = {{{at}}};
    static const @TABLE @real factor[] = {{{factor}}};
    for (int q = 0; q < @N_OUT; q++) {{
        int k = first[q], last = first[q + 1] - 1;
        @real scale = factor[k] + 0 * y[q];
        while (k < last && y[q] > at[k + 1])
            k++;
        if (k == last)
            scale = factor[k];
        else if (y[q] > at[k])
            scale = factor[k] + (factor[k + 1] - factor[k]) * ((y[q] - at[k]) / (at[k + 1] - at[k]));
        half[q] = @{name}[q] * scale;
    }}
}}
"""


def declarations(intervals: Sequence[ConformalInterval]) -> str:
    return "".join(
        (_SCALED_HEADER if interval.scales else _HEADER).format(percent=interval.percent, name=_name(interval))
        for interval in intervals
    )


def definitions(intervals: Sequence[ConformalInterval], dialect: Dialect) -> str:
    return "".join(
        f"\nconst @TABLE @real @{_name(interval)}[@N_OUT] = {{{_widths(interval, dialect)}}};\n"
        + (_scale_code(interval, dialect) if interval.scales else "")
        for interval in intervals
    )


def _widths(interval: ConformalInterval, dialect: Dialect) -> str:
    return decimal_list(np.array(interval.half_widths), dialect)


def _scale_code(interval: ConformalInterval, dialect: Dialect) -> str:
    scales = [np.array(scale or [(0.0, 1.0)]) for scale in interval.scales]
    at, factor = np.concatenate(scales).T
    return _SCALED_CODE.format(
        name=_name(interval),
        first=", ".join(map(str, np.cumsum([0, *map(len, scales)]).tolist())),
        at=decimal_list(at, dialect),
        factor=decimal_list(factor, dialect),
    )


def _name(interval: ConformalInterval) -> str:
    return f"interval_{interval.percent.replace('.', '_')}"


# The source turns contraction off for clang until the end of the file; an including file gets it back here.
_END = """
#ifdef __clang__
#pragma STDC FP_CONTRACT DEFAULT
#endif
"""


def arrange_files(files: Mapping[str, str], prefix: str, form: CForm) -> dict[str, str]:
    """Arrange the files by form. "files" changes nothing; "single_file" puts P.h and P.c into P.c; "header_only" puts
    them into P.h, with the definitions after `#ifdef P_IMPLEMENTATION`. The last two keep P_test.c and README.md, but
    not the build files."""
    if form == "files":
        return dict(files)
    header, code, test = files[f"{prefix}.h"], files[f"{prefix}.c"], files[f"{prefix}_test.c"]
    include = f'#include "{prefix}.h"\n'
    begin, found, rest = code.partition(include)
    if not (found and include in test):
        raise AssertionError(f"{prefix}.c and {prefix}_test.c must include {prefix}.h")
    if form == "single_file":
        whole = {f"{prefix}.c": begin + header + rest + _END}
        test = test.replace(include, f'#include "{prefix}.c"\n', 1)
    else:
        guard = (
            f"\n#if defined {prefix}_IMPLEMENTATION && !defined {prefix}_IMPLEMENTED\n#define {prefix}_IMPLEMENTED\n"
        )
        whole = {f"{prefix}.h": header + guard + rest + _END + "\n#endif\n"}
        test = test.replace(include, f"#define {prefix}_IMPLEMENTATION\n{include}", 1)
    return {**whole, f"{prefix}_test.c": test, "README.md": files["README.md"]}


Array = NDArray[np.float64]

_GOLDEN_ROWS, _GOLDEN_NUMBERS = 8, 1000  # at most; the second keeps the files of wide networks small

# Of networks whose derivatives every artifact has: with more, compilers take seconds, or threads have no such stack.
_MOST_SYMBOLIC, _MOST_ON_STACK = 1000, 2**15

_FORMULA = 2000  # characters: a longer one is unreadable, and takes much of a small processor's memory

_PACKAGE_FILES = Path(__file__).parent / "_c" / "package_files"
_GRADIENT = """
`@gradient(x, dy_dx)` gives the exact derivative of output q by raw input i at `dy_dx[q*@N_IN + i]`, and
`@gradient_batch` the outputs and derivatives of many rows.
"""

_HESSIAN = """
`@hessian(x, y, dy_dx, d2y_dx2)` gives the outputs, the derivatives and the second derivatives, that of output q by raw
inputs a and b at `d2y_dx2[(q*@N_IN + a)*@N_IN + b]`; y and dy_dx may be null. `@hessian_batch` does so for many rows.
"""

_WITHOUT = "- `-D@NO_GRADIENT` leaves out `@gradient` and `@gradient_batch`.\n"
_WITHOUT_BOTH = "- `-D@NO_GRADIENT` leaves out `@gradient`, `@hessian` and their batches.\n"


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as C source. Raises ExportError for a constant beyond the precision. Our runtime needs "files"."""
    if options.in_integers:
        texts = arrange_files(integer_files(kan, options), c_identifier(options.name), options.c_form)
        return {path: text.encode("ascii") for path, text in texts.items()}
    refuse_underflow(kan, options.floating)
    prefix = c_identifier(options.name)
    dialect = Dialect("c", options.floating, f"{prefix}_")
    layers = [parts(layer, float(np.finfo(_dtype(dialect)).max)) for layer in kan.layers]
    derivatives = 2 if options.hessian else 1 if options.gradient else 0
    words = {
        "shape": str(list(kan.shape)),
        "real": "float" if dialect.single else "double",
        "inputs": kan.shape[0],
        "outputs": kan.shape[-1],
        "what": "scores of classes" if kan.classes else "values",
    }
    files = {
        f"{prefix}.h": template.HEADER.format(
            probabilities=(template.HEADER_PROBABILITIES if kan.classes else "")
            + "".join([c_gradient_template.HEADER, c_hessian_template.HEADER][:derivatives])
            + declarations(options.intervals),
            **words,
        ),
        f"{prefix}.c": _code(
            kan, layers, dialect, derivatives, options.vector_math and c_columns.has_columns(kan, layers)
        )
        + definitions(options.intervals, dialect),
        f"{prefix}_test.c": template.TEST.replace("{digits}", "9" if dialect.single else "17"),
    }
    texts = {path: template.fill(text, prefix) for path, text in files.items()}
    # Last, and not by `fill`: these texts contain names that users chose.
    formula = formula_lines(kan)
    information = template.string(_information(kan, options, formula))
    texts[f"{prefix}.c"] = texts[f"{prefix}.c"].replace("$INFORMATION$", information, 1)
    texts |= _package(prefix, words, formula, options.c_form, derivatives)
    return {path: text.encode("ascii") for path, text in arrange_files(texts, prefix, options.c_form).items()}


def has_cheap_gradient(kan: Kan) -> bool:
    """Whether the derivatives are cheap: in compile time, in bytes, and on the stack."""
    symbolic = sum(int(layer.symbolic_mask.sum()) for layer in kan.layers)
    return symbolic <= _MOST_SYMBOLIC and c_gradient.stack_numbers(kan) <= _MOST_ON_STACK


def _code(kan: Kan, layers: list[Parts], dialect: Dialect, derivatives: int, columns: bool) -> str:
    gradient = derivatives > 0
    found = [
        rows(layer, part.splines, dialect.precision) if part.splines else None
        for layer, part in zip(kan.layers, layers, strict=True)
    ]
    splines = [grid for grid in found if grid]
    blocks = _functions(layers, dialect, derivatives)
    blocks += spline_functions(splines, dialect, derivatives=derivatives)
    blocks += tiles.kernels_of(found, layers, dialect) if splines else []
    for number, (layer, part, own) in enumerate(zip(kan.layers, layers, found, strict=True)):
        raw = number == 0 and not prepares(kan)
        fast = tiles.fast_layer(number, layer, part, own, dialect, raw) if own else ""
        blocks += layer_code(number, layer, part, own, dialect, fast, gradient)
    blocks += [_affine_tables(kan, dialect), *encoding(kan, dialect, gradient)]
    predict, loop = _predict(kan, layers, dialect), template.ROW_BY_ROW
    if splines:
        predict = f"\n#ifdef @FAST{tiles.tile(kan, layers, dialect)}#else{predict}#endif\n"
        loop = f"#ifdef @FAST\n{template.BY_TILES}#else\n{loop}#endif\n"
    if columns:
        predict += c_columns.columns(kan, layers, dialect)
        loop = f"#ifdef @VECTOR_MATH\n{template.BY_TILES}#else\n{loop}#endif\n"
    hessian = c_hessian.hessian(kan, layers, dialect) if derivatives > 1 else ""
    blocks += [
        predict,
        template.PREDICT_BATCH.replace("$ROWS$", loop),
        *when(kan.classes, template.PREDICT_PROBA.replace("{exp}", "expf" if dialect.single else "exp")),
        c_gradient.gradient(kan, layers, dialect, hessian) if gradient else "",
        hessian,
        f"\n#ifndef @NO_INFO\nstatic @TABLE const char @information[] = $INFORMATION$;\n{template.INFO}#endif\n",
        *("\n#ifndef @NO_SELFTEST\n", *_selftest(kan, dialect), "\n#endif\n"),
    ]
    helpers = {"sign": template.SIGN, "j0": special_functions.c_j0(dialect)}
    begin = [
        template.BEGIN,
        *((template.SLACK, tiles.begin(kan, found, dialect)) if splines else ()),
        *when(columns, c_columns.declarations(dialect)),
    ]
    return "".join([*begin, *template.select_called(helpers, "".join(blocks).replace(dialect.prefix, "@")), *blocks])


def _functions(layers: list[Parts], dialect: Dialect, derivatives: int) -> list[str]:
    """The edge functions that libm lacks, or that must report leaving their domain."""
    used, blocks = functions_of(layers), []
    for own in c_derivatives.functions_by_values(used, derivatives):
        text = OWN[own].c_function(own_name(own, dialect), ExportError)
        blocks.append(f"\n{text}" if own in used else f"\n#ifndef @NO_GRADIENT\n{text}#endif\n")
    edges = {edge.function for part in layers for _, _, edge in part.terms}
    for name in sorted(name for name in used if needs_helper(name, dialect)):
        outside = dialect.reports_domain(name)
        lines = inner([*when(outside, f"if (!({domain(name)})) *bad = 1;"), *body(name, dialect)])
        head = f"\nstatic @real {helper(name, dialect)}(@real x{', int *bad' if outside else ''})\n"
        text = head + "{\n" + "".join(f"{line}\n" for line in lines) + "}\n"
        # What only splines call is in the plain form alone: the fast one has its own silu.
        blocks.append(text if name in edges else f"{template.where_plain(derivatives > 0)}{text}#endif\n")
    return blocks


def _affine_tables(kan: Kan, dialect: Dialect) -> str:
    tables = {"input": (kan.input_shift, kan.input_scale), "output": (kan.output_shift, kan.output_scale)}
    return "\n" + "".join(
        table(f"{end}_shift", shift, dialect) + table(f"{end}_scale", scale, dialect)
        for end, (shift, scale) in tables.items()
        if is_affine(shift, scale)
    )


def _predict(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    room = max(kan.shape)
    outside = any(has_domain(part, dialect) for part in layers)
    places = ["ab"[number % 2] for number in range(len(layers) + 1)]
    lines = [
        f"@real a[{room}], b[{room}];",
        f"int {'outside = 0, ' if outside else ''}i;",
        "if (!x || !y) return @ERROR_NULL;",
        *values(kan, layers, places, dialect, "@fail(y, {})"),
    ]
    source = places[-1]
    if is_affine(kan.output_shift, kan.output_scale):
        lines += [
            f"for (i = 0; i < @N_OUT; i++) y[i] = @output_scale[i]*{source}[i] + @output_shift[i];",
            "if (!@finite(y, @N_OUT)) return @fail(y, @ERROR_RESULT);",
        ]
    else:
        lines.append(f"for (i = 0; i < @N_OUT; i++) y[i] = {source}[i];")
    text = "".join(f"    {line}\n" for line in [*lines, "return @OK;"])
    return f"\nint @predict(const @real x[@N_IN], @real y[@N_OUT])\n{{\n{text}}}\n"


def _selftest(kan: Kan, dialect: Dialect) -> list[str]:
    """Golden rows and the self-test: samples of the training ranges, rounded to the type, with reference outputs. The
    allowed error of each output is far above rounding errors and far below those of a faulty compiler, processor or
    flash memory, and larger where rounding errors may be."""
    most = max(2, min(_GOLDEN_ROWS, _GOLDEN_NUMBERS // max(kan.shape[0], kan.shape[-1])))
    x = steady_rows(kan, most).astype(_dtype(dialect)).astype(np.float64)
    y = evaluate(kan, x)
    size = scale(y)
    size = np.where(size > 0, size, 1.0)
    largest = allow(kan, x, y, dialect.precision, 1e-3 if dialect.single else 1e-9) / size
    # Half of the type's range: an output that rounding may push to infinity is not a test, and neither is a row that
    # rounding may push out of a function's domain.
    end = np.finfo(_dtype(dialect)).max / 2
    steady = np.isfinite(rounding(kan, x, dialect.precision))
    good = (steady & np.isfinite(y) & (np.maximum(np.abs(y), np.maximum(size, largest)) < end)).all(axis=1)
    x, y, size, largest = x[good], y[good], size[good], largest[good]
    # A network that is finite nowhere in its range has no golden rows; C has no empty arrays.
    rows = len(x)
    if rows == 0:
        x, y = np.zeros((1, kan.shape[0])), np.zeros((1, kan.shape[-1]))
        size = largest = np.ones_like(y)
    tables = [
        table("golden_x", x, dialect),
        table("golden_y", y, dialect),
        table("golden_scale", size, dialect),
        table("golden_allowed", largest, dialect),
    ]
    test = template.SELFTEST.replace("{fabs}", "fabsf" if dialect.single else "fabs")
    if encodes(kan):  # a NaN may be an input
        test = test.replace("x[i] = (@real)NAN", "x[i] = (@real)INFINITY")
    return [f"\n#define @GOLDEN_ROWS {rows}u\n", *tables, test]


def _information(kan: Kan, options: ExportOptions, formula: list[str]) -> str:
    return template.information(
        {
            "name": options.name,
            "precision": options.precision,
            "inputs": [serialization.variable_out(variable) for variable in kan.inputs],
            "outputs": [serialization.variable_out(output) for output in kan.outputs],
            "classes": list(kan.classes),
            "shape": list(kan.shape),
            "formula": formula
            if sum(map(len, formula)) <= _FORMULA
            else ["(long: the README of the C source has it, and 'kanserve formula')"],
            "kan_sha256": hashlib.sha256(serialization.dumps(kan)).hexdigest(),
        }
    )


def _dtype(dialect: Dialect) -> type[np.floating]:
    return np.float32 if dialect.single else np.float64


def _package(
    prefix: str, words: Mapping[str, object], formula: list[str], form: CForm, derivatives: int
) -> dict[str, str]:
    """The texts of CMakeLists.txt, P.pc.in and README.md by path, mostly from `_c/package_files`; only the README for
    single-file forms. `@` and `@@` are placeholders as in `_c/template.py`; `$AT$` is a plain @. `words`: the network's
    shape, inputs, outputs, meaning of outputs, and type; `derivatives`: their highest order."""
    readme = template.fill(
        _package_text("README.md").format(
            build=_package_text(f"build_{form}.md"),
            gradient="".join([_GRADIENT, _HESSIAN][:derivatives]),
            without=["", _WITHOUT, _WITHOUT_BOTH][derivatives],
            **words,
        ),
        prefix,
    )
    files = {"README.md": readme.replace("$FORMULA$", "\n".join(f"    {line}" for line in formula), 1)}
    if form == "files":
        files["CMakeLists.txt"] = template.fill(_package_text("CMakeLists.txt"), prefix).replace("$AT$", "@")
        files[f"{prefix}.pc.in"] = template.fill(_package_text("pkg_config.pc").format(**words), prefix).replace(
            "$AT$", "@"
        )
    return files


def _package_text(path: str) -> str:
    return (_PACKAGE_FILES / f"{path}.in").read_text("utf-8")
