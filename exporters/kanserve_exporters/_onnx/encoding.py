"""The encoding of raw inputs as operators of ONNX: fill values for what is missing, and numbers of categories."""

import numpy as np

from kanserve.network.kan import Variable
from kanserve_exporters._onnx.body import Body

_INT64, _FLOAT, _DOUBLE = 7, 1, 11  # numbers of the types in ONNX


def encode(body: Body, x: str, inputs: tuple[Variable, ...]) -> str:
    """The numbers (batch, inputs) that the network sees for the raw values x.

    What no number stands in for becomes NaN; infinities stay.
    """
    fills = body.table(
        "fill_values", np.array([np.nan if one.fill_value is None else one.fill_value for one in inputs])
    )
    missing = body("IsNaN", x)
    counts = [len(one.categories) for one in inputs]
    if not any(counts):
        return body("Where", missing, fills, x)
    # Which values are codes of categories: of other inputs none, since their count is 0.
    count = body.table("category_count", np.array(counts, np.float64))
    near = body("And", body("GreaterOrEqual", x, body.number(0)), body("Less", x, count))
    code = body("Cast", body("Where", near, x, body.number(0)), to=_INT64)
    whole = body("Equal", body("Cast", code, to=_FLOAT if body.precision == "float" else _DOUBLE), x)
    known = body("And", near, whole)
    starts = body.table("category_first", np.cumsum([0, *counts[:-1]]))
    values = body.table("category_values", np.array([number for one in inputs for number in one.category_values]))
    # Within the table also where the code is of no use.
    index = body("Add", body("Where", known, code, body.integer(0)), body("Min", starts, body.integer(sum(counts) - 1)))
    categorical = body("Greater", count, body.number(0))
    finite = body("Not", body("IsInf", x))
    filled = body("Or", missing, body("And", categorical, finite))
    return body("Where", known, body("Gather", values, index, axis=0), body("Where", filled, fills, x))
