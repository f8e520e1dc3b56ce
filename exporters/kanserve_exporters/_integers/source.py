"""A network as C99 in integers only: P.h, P.c, P_test.c and README.md, for processors without floating point."""

import re

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.encoding import encode
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve_exporters._c.template import fill
from kanserve_exporters._integers import template
from kanserve_exporters._integers.fixed_point import (
    CODES,
    FixedPoint,
    IntegerLayer,
    Scale,
    Word,
    fixed_point,
    training_range,
)
from kanserve_exporters._shared.expressions import wrap
from kanserve_exporters._shared.source_text import c_identifier, formula_lines

Array = NDArray[np.float64]

MEASURED_ROWS, GOLDEN_ROWS = 10_000, 8


def integer_files(kan: Kan, options: ExportOptions) -> dict[str, str]:
    """The texts of the files, by path.

    Raises
    ------
    ExportError
        The network cannot be written so, or not within the tolerance.
    """
    refused = {"gradient": options.gradient, "hessian": options.hessian, "vector_math": options.vector_math}
    for name, chosen in refused.items():
        if chosen:
            raise ExportError(f"C in integers has no {name.replace('_', ' ')}; export in float or double.")
    prefix = c_identifier(options.name)
    x, seen = _sample(kan)
    y = evaluate(kan, x)
    size = np.ptp(y, axis=0)
    size = np.where(size > 0, size, 1.0)
    made = _within(kan, options, size)
    x_codes = _codes(seen, made)
    y_codes = made(x_codes)
    errors = np.abs(_numbers(y_codes, made.outputs) - y).max(axis=0)
    texts = {
        f"{prefix}.h": _header(kan, made, errors),
        f"{prefix}.c": _code(kan, made, x_codes[:GOLDEN_ROWS], y_codes[:GOLDEN_ROWS]),
        f"{prefix}_test.c": template.TEST,
        "README.md": _readme(kan, made, errors, size),
    }
    if options.c_form == "files":
        texts |= {"zephyr/module.yml": template.ZEPHYR_MODULE, "zephyr/CMakeLists.txt": template.ZEPHYR_CMAKE}
    filled = {path: fill(text, prefix) for path, text in texts.items()}
    formula = "\n".join(f"    {line}" for line in formula_lines(kan))
    return filled | {"README.md": filled["README.md"].replace("$FORMULA$", formula, 1)}


def _within(kan: Kan, options: ExportOptions, size: Array) -> FixedPoint:
    """The network in the requested word size, or with only a tolerance, in the smallest word size that meets it."""
    words: tuple[Word, ...] = ("int8", "int16")
    words = tuple(word for word in words if options.precision == word) or words
    tolerance = None if options.tolerance is None else options.tolerance * size
    for word in words:
        made = fixed_point(kan, word, tolerance)
        if tolerance is None or (made.bounds <= tolerance).all():
            return made
    least = float((made.bounds / size).max())
    raise ExportError(
        f"In {words[-1]} the largest error is only proven to be at most {least:.2g} of the outputs' range, not "
        f"{options.tolerance:g}. Give a larger tolerance, or export in float."
    )


def _sample(kan: Kan) -> tuple[Array, Array]:
    """Random rows in the training ranges, raw and encoded."""
    rng = np.random.default_rng(0)
    columns = []
    for i, variable in enumerate(kan.inputs):
        if variable.categories:
            columns.append(rng.integers(len(variable.categories), size=MEASURED_ROWS).astype(np.float64))
        else:
            low, high = training_range(kan, i)
            columns.append(rng.uniform(low, high, MEASURED_ROWS))
    x = np.stack(columns, axis=1)
    return x, encode(kan, x)


def _codes(seen: Array, made: FixedPoint) -> NDArray[np.int64]:
    lows, steps = (np.array([getattr(one, name) for one in made.inputs]) for name in ("low", "step"))
    return np.asarray(np.clip(np.rint((seen - lows) / steps), 0, CODES - 1), np.int64)


def _numbers(codes: NDArray[np.int64], scales: tuple[Scale, ...]) -> Array:
    return np.asarray(np.array([one.low for one in scales]) + codes * np.array([one.step for one in scales]))


def _code_of(number: float, scale: Scale) -> int:
    return int(np.clip(round((number - scale.low) / scale.step), 0, CODES - 1))


def _header(kan: Kan, made: FixedPoint, errors: Array) -> str:
    scales = []
    for letter, found, variables in (("X", made.inputs, kan.inputs), ("Y", made.outputs, kan.outputs)):
        for number, (scale, variable) in enumerate(zip(found, variables, strict=True)):
            name = re.sub(r"[^\w ^.-]", "?", f"{variable.name} {variable.unit}".strip(), flags=re.ASCII)
            scales.append(f"#define @{letter}{number}_LOW ({scale.low!r}) /* {name} */")
            scales.append(f"#define @{letter}{number}_STEP ({scale.step!r})")
    bounds = [
        f"#define @Y{q}_BOUND ({bound:.6g})\n#define @Y{q}_MEASURED ({error:.6g})\n"
        for q, (bound, error) in enumerate(zip(made.bounds, errors, strict=True))
    ]
    extra = [
        template.CATEGORIES.format(i=i, count=len(variable.categories))
        for i, variable in enumerate(kan.inputs)
        if variable.categories
    ]
    missing = [
        f"#define @X{i}_MISSING ({_code_of(variable.fill_value, made.inputs[i])}u)\n"
        for i, variable in enumerate(kan.inputs)
        if variable.fill_value is not None
    ]
    if missing:
        extra += ["\n/* The codes of missing values, and of unknown categories. */\n", *missing]
    return template.HEADER.format(
        shape=list(kan.shape),
        inputs=kan.shape[0],
        outputs=kan.shape[-1],
        stack=4 * _most_sums(made) + 4 * _widest(kan) + 64,
        scales="\n".join(scales) + "\n",
        rows=f"{MEASURED_ROWS:,}",
        bounds="".join(bounds),
        extra="".join(extra),
    )


def _most_sums(made: FixedPoint) -> int:
    return max(len(layer.offsets) for layer in made.layers)


def _widest(kan: Kan) -> int:
    return max(kan.shape[1:-1], default=0)


def _code(kan: Kan, made: FixedPoint, x: NDArray[np.int64], y: NDArray[np.int64]) -> str:
    word = "uint8_t" if made.word == "int8" else "uint16_t"
    products = any(size > 1 for layer in made.layers for size in layer.arity)
    categories = [
        f"const @TABLE uint16_t @CATEGORIES_{i}[{len(variable.categories)}] = "
        f"{{{_list(np.array([_code_of(value, made.inputs[i]) for value in variable.category_values]))}}};\n"
        for i, variable in enumerate(kan.inputs)
        if variable.categories
    ]
    return template.CODE.format(
        word=word,
        tables="".join([*categories, *(_tables(n, layer, word, products) for n, layer in enumerate(made.layers))]),
        nodes_member=", nodes" if products else "",
        arity_member=template.ARITY_MEMBER if products else "",
        most_sums=_most_sums(made),
        node_names=", q" if products else "",
        store=template.STORE_SUM if products else template.STORE_NODE,
        nodes=template.PRODUCTS if products else "",
        predict=_predict(len(made.layers), _widest(kan)),
        golden_x=_list(x),
        golden_y=_list(y),
        golden_rows=len(x),
    )


def _tables(n: int, layer: IntegerLayer, word: str, products: bool) -> str:
    return template.LAYER.format(
        n=n,
        word=word,
        inputs=len(layer.intervals),
        sums=f"{len(layer.offsets)}, {len(layer.arity)}" if products else len(layer.offsets),
        sum_shift=layer.sum_shift,
        intervals=_list(np.array(layer.intervals)),
        coefficients=_list(np.concatenate(layer.coefficients)),
        offsets=_list(layer.offsets),
        multipliers=_list(layer.multipliers),
        shifts=_list(layer.shifts),
        arity=template.ARITY.format(n=n, arity=_list(np.array(layer.arity))) if products else "",
        arity_name=f", @arity_{n}" if products else "",
    )


def _predict(layers: int, widest: int) -> str:
    names = ["x", *("ab"[n % 2] for n in range(layers - 1)), "y"]
    used = sorted(set(names) - {"x", "y"})
    declared = f"    uint16_t {', '.join(f'{name}[{widest}]' for name in used)};\n" if used else ""
    return declared + "".join(f"    @run(&@layer_{n}, {names[n]}, {names[n + 1]});\n" for n in range(layers))


def _list(numbers: NDArray[np.int64]) -> str:
    return wrap(list(map(str, numbers.ravel().tolist())))


def _readme(kan: Kan, made: FixedPoint, errors: Array, size: Array) -> str:
    rows = ["| Output | Bound | of the range | Measured | of the range |", "|---|---|---|---|---|"]
    for q, (bound, error) in enumerate(zip(made.bounds, errors, strict=True)):
        rows.append(f"| {q} | {bound:.3g} | {bound / size[q]:.2g} | {error:.3g} | {error / size[q]:.2g} |")
    return template.README.format(
        shape=list(kan.shape),
        inputs=kan.shape[0],
        outputs=kan.shape[-1],
        what="scores of classes" if kan.classes else "values",
        bits=8 if made.word == "int8" else 16,
        bytes=made.table_bytes,
        rows=f"{MEASURED_ROWS:,}",
        errors="\n".join(rows),
    )
