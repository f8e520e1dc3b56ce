"""Names of categories in the rows of a request: JSON has texts, where gRPC's messages have the codes of categories."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from kanserve.errors import TensorError
from kanserve.network.kan import Variable
from kanserve.serve.models.catalog import Catalog

Coded = Callable[[list[Any], str], list[Any]]  # values in the order of their rows, with codes for the texts among them

_SHOWN = 30  # categories: more are not read


def coder(catalog: Catalog, name: str, version: str) -> Coded:
    """The function that puts codes in the place of texts, for a model that is looked up when there are texts."""
    return partial(_coded, lambda: catalog.find(name, version).kan.inputs)


def _coded(inputs: Callable[[], Sequence[Variable]], values: list[Any], what: str) -> list[Any]:
    known = inputs()
    return [
        _code(value, known[place % len(known)], place // len(known), what) if type(value) is str else value
        for place, value in enumerate(values)
    ]


def _code(text: str, variable: Variable, row: int, what: str) -> float:
    if text in variable.categories:
        return float(variable.categories.index(text))
    if not variable.categories:
        raise TensorError(
            f"{what}: row {row + 1} has the string {text!r:.80} for {variable.name!r:.80}, which is a number. "
            "Leave the quotes out."
        )
    shown = ", ".join(variable.categories[:_SHOWN])
    more = len(variable.categories) - _SHOWN
    raise TensorError(
        f"{what}: row {row + 1} has {text!r:.80} for {variable.name!r:.80}, whose categories are {shown}"
        f"{f' and {more} more' if more > 0 else ''}. Send one of them, or null where it is missing."
    )
