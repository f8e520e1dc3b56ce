"""Arities, base functions and function names, which pykan stores in the settings and not in the arrays. Settings that
are not plain data count as missing."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np

from kanserve.importers.conversion import Checkpoint, Options
from kanserve.importers.pykan_arrays import Part, edge_at, refusal
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Base

NO_FUNCTION = "0"

_OURS = {
    **{name: name for name in ("x", "x^2", "x^3", "x^4", "x^5", "1/x", "1/x^2", "1/x^3", "1/x^4", "1/x^5")},
    **{name: name for name in ("x^1.5", "sqrt", "exp", "log", "abs", "sin", "cos", "tan", "tanh", "gaussian")},
    **{name: name for name in ("arcsin", "arccos", "arctan", "arctanh")},
    "x^0.5": "sqrt",
    "1/sqrt(x)": "1/sqrt",
    "1/x^0.5": "1/sqrt",
    "sgn": "sign",
}
"""The name of a function in our table, by pykan's name."""

# The base functions, by the tag of the Python object that stands in the settings.
_OBJECTS: tuple[tuple[str, Base], ...] = (
    ("torch.nn.modules.activation.SiLU", "silu"),
    ("torch.nn.modules.linear.Identity", "identity"),
    ("kan.MultKAN.<lambda>", "zero"),
)


def require_agreement(checkpoint: Checkpoint, layers: Sequence[Part]) -> None:
    """Raise CheckpointError if the settings contradict the arrays on width, order or grid."""
    for where, setting, stated, got in _statements(checkpoint, layers):
        if stated != got:
            raise refusal(
                checkpoint,
                f"its settings say that {where.format(stated)} ({setting}), its arrays that {where.format(got)}. Are "
                "both of one and the same network?",
            )


def _statements(checkpoint: Checkpoint, layers: Sequence[Part]) -> Iterator[tuple[str, str, int, int]]:
    """Compare the sizes in the settings with those of the arrays. Yields (description, setting name, size in the
    settings, size of the arrays)."""
    said, counts = checkpoint.settings, [layers[0].inputs, *(layer.nodes for layer in layers)]
    width = said.get("width")
    if isinstance(width, list):
        yield "it is {} rows of nodes deep", "width", len(width), len(counts)
        for number, (stated, count) in enumerate(zip(width, counts, strict=True)):
            nodes = _whole_numbers(stated if isinstance(stated, list) else [stated])
            if nodes is not None:
                where = f"layer {number} has {{}} nodes" if number else "the network takes {} inputs"
                yield where, "width", sum(nodes), count
    orders, intervals = [layer.order for layer in layers], [layer.intervals for layer in layers]
    for name, where, found in (("k", "has order {}", orders), ("grid", "has {} intervals", intervals)):
        value = said.get(name)
        own = _whole_numbers(value if isinstance(value, list) else [value] * len(layers))
        if own is not None:
            yield "it has {} layers", name, len(own), len(layers)
            for number, both in enumerate(zip(own, found, strict=True), 1):
                yield f"layer {number} {where}", name, *both


def arity(checkpoint: Checkpoint, layers: Sequence[Part], number: int) -> list[int]:
    """How many subnodes each node of a layer multiplies; sum nodes come first."""
    layer = layers[number]
    said = checkpoint.settings.get("mult_arity")
    if layer.nodes == layer.subnodes:
        return [1] * layer.nodes
    where = f"layer {number + 1} makes {layer.nodes} nodes of {layer.subnodes} sums"
    if isinstance(said, list):
        products = _whole_numbers(said[number + 1]) if number + 1 < len(said) else None
    elif type(said) is int and said > 1:
        times, rest = divmod(layer.subnodes - layer.nodes, said - 1)
        products = [said] * times if not rest else []
    else:
        products = None
    if products is None:
        raise refusal(
            checkpoint,
            f"{where}, some of them products, and what is multiplied is in the settings only (mult_arity): give the "
            "file of the settings too, or the live model.",
        )
    sums = layer.nodes - len(products)
    if min(products, default=2) < 2 or sums < 0 or sums + sum(products) != layer.subnodes:
        raise refusal(checkpoint, f"{where}, and products of {said!r:.60} (mult_arity) do not make that.")
    width = checkpoint.settings.get("width")
    pair = _whole_numbers(width[number + 1]) if isinstance(width, list) else None
    if pair is not None and len(pair) == 2 and pair != [sums, len(products)]:
        raise refusal(
            checkpoint,
            f"layer {number + 1} has {sums} sums and {len(products)} products by mult_arity and the arrays, {pair[0]} "
            f"and {pair[1]} by width.",
        )
    return [1] * sums + products


def bases(checkpoint: Checkpoint, options: Options, layers: Sequence[Part]) -> tuple[tuple[Base, ...], str]:
    """The base function of each layer, and a note if it was assumed."""
    said = checkpoint.settings.get("base_fun_name")
    each = said if isinstance(said, list) and len(said) == len(layers) else [said] * len(layers)
    if said is None and options.base is None and any(_has_base(layer) for layer in layers):
        note = "the base function is not in a state_dict: silu, pykan's default, was taken; base= says another"
        default: Base = "silu"
        return (default,) * len(layers), note
    return tuple(_base(checkpoint, options, base, layer) for base, layer in zip(each, layers, strict=True)), ""


def _base(checkpoint: Checkpoint, options: Options, said: Any, layer: Part) -> Base:
    tag = str(getattr(said, "tag", ""))
    stored = [base for base in get_args(Base) if said == base] + [base for name, base in _OBJECTS if tag.endswith(name)]
    if stored:
        found: Base = stored[0]
        if options.base not in (None, found):
            raise refusal(checkpoint, f"its base function is {found!r}, and base={options.base!r} says another.")
        return found
    if options.base is not None:
        return options.base
    if not _has_base(layer):
        return "zero"
    shown = tag or (said if isinstance(said, str) else "no text")
    raise refusal(
        checkpoint,
        f"its base function is {shown:.80}; here are {', '.join(get_args(Base))}. If it is one of these, base= says "
        "so; else train it with one of them.",
    )


def _has_base(layer: Part) -> bool:
    return bool((layer.mask * layer.scale_base).any())


def functions_of(checkpoint: Checkpoint, number: int, part: Part) -> list[list[str]]:
    """[out][in]: kanserve's name of the function if the symbolic mask is not 0 ("0" for pykan's zero), else "". Raises
    CheckpointError for a function without a name, or with an unknown one."""
    name = f"symbolic.funs_name.{number}"
    names = checkpoint.settings.get(name)
    if not part.symbolic_mask.any() and names is None:
        return [[""] * part.inputs for _ in range(part.subnodes)]
    if names is None:
        raise refusal(
            checkpoint,
            f"layer {number + 1} has {int((part.symbolic_mask != 0).sum())} edges with a function, and which ones is "
            f"in the settings only ({name}): give the file of the settings too, or the live model.",
        )
    rows = names if isinstance(names, list) else []
    if len(rows) != part.subnodes or any(not isinstance(row, list) or len(row) != part.inputs for row in rows):
        raise refusal(
            checkpoint,
            f"the functions of layer {number + 1} ({name}) must be {part.subnodes} lists of {part.inputs} names, as "
            "its arrays have. Are both of one and the same network?",
        )
    return [
        [
            _function(checkpoint, edge_at(number, i, j, products=part.products), rows[j][i])
            if part.symbolic_mask[j, i]
            else ""
            for i in range(part.inputs)
        ]
        for j in range(part.subnodes)
    ]


def ours(name: Any) -> str | None:
    """kanserve's name for a function of pykan, "0" for pykan's zero; None if unknown."""
    if name in (NO_FUNCTION, 0):
        return NO_FUNCTION
    return _OURS.get(name, name if name in FUNCTIONS else None) if isinstance(name, str) else None


def guess_functions(checkpoint: Checkpoint, layers: Sequence[Part]) -> list[str]:
    """Functions that pykan does not have, assumed to be kanserve's functions of the same name."""
    found = set()
    for number, part in enumerate(layers):
        names = checkpoint.settings.get(f"symbolic.funs_name.{number}")
        found |= {str(names[j][i]) for j, i in np.argwhere(part.symbolic_mask) if names is not None}
    return sorted(found - set(_OURS) - {NO_FUNCTION})


def _function(checkpoint: Checkpoint, place: str, name: Any) -> str:
    found = ours(name)
    if found is not None:
        return found
    if name == "anonymous":
        raise refusal(
            checkpoint,
            f"{place}: its function has no name, and what it computes is in no file. Fix the edge to a function of "
            "pykan's library, or unfix it.",
        )
    raise refusal(
        checkpoint,
        f"{place}: its function {name!r:.40} is not of pykan's library, and none of ours. There are: "
        f"{', '.join(sorted(_OURS))}.",
    )


def keep_columns(checkpoint: Checkpoint, count: int) -> list[int] | None:
    """The columns that a live model takes as inputs, counted from 0; None if unknown."""
    columns = _whole_numbers(checkpoint.settings.get("input_id"))
    return columns if columns is not None and len(columns) == count else None


def _whole_numbers(values: Any) -> list[int] | None:
    """The list if all its values are integers, else None."""
    plain = isinstance(values, list) and all(type(value) is int for value in values)
    return list(values) if plain else None
