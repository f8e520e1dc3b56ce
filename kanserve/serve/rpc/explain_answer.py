"""Explain: how much each input contributes to the predictions of given rows, by the reference evaluation."""

from time import perf_counter_ns

import numpy as np

from kanserve.errors import DataError, DeadlineError, FormulaError, TensorError
from kanserve.network.shapley_values import Explainer, output_names
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc.tensors import decode_rows, encode_array
from kanserve.serve.state import Call
from kanserve.v1 import formula_pb2 as pb


def explain_answer(model: Model, message: pb.Float64Array, call: Call) -> pb.ExplainResponse:
    """The contributions at each row. Raises TensorError for invalid rows, FormulaError for a network that is not finite
    in its training range, DeadlineError if the caller leaves before all rows are done."""
    if model.max_explained_rows == 0:
        raise TensorError(
            f"A row of {model.name!r} takes too long to explain here: {model.kan.edges} edges, and most inputs meet. "
            "Load the model in Python and call explain with few background rows."
        )
    rows = decode_rows(message, model.kan.inputs, model.max_explained_rows)
    call.rows, begun = len(rows), perf_counter_ns()
    try:
        explainer = Explainer(model.kan)
    except DataError:
        raise FormulaError(
            f"{model.name!r} is finite nowhere in its training range, which rows are compared with."
        ) from None
    parts = [explainer.explain(rows[:0])]
    for start in range(len(rows)):
        if not call.alive():
            raise DeadlineError("The deadline passed, or the caller left, before all rows were explained.")
        parts.append(explainer.explain(rows[start : start + 1]))
    call.computed = perf_counter_ns() - begun
    return pb.ExplainResponse(
        model_name=model.name,
        model_version=str(model.version),
        inputs=[  # without the learned numbers of categories, which belong to the formula
            pb.Variable(name=given.name, unit=given.unit, low=given.low, high=given.high, categories=given.categories)
            for given in model.kan.inputs
        ],
        outputs=output_names(model.kan),
        base=explainer.base,
        contributions=encode_array(np.concatenate([values for values, _ in parts])),
        standard_errors=encode_array(np.concatenate([errors for _, errors in parts])),
    )
