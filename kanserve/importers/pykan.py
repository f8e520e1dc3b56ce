"""Networks of pykan 0.2 (MultKAN): a state_dict and the settings file, or the live model.

The arrays of layer l, with I inputs, O subnodes and Q nodes:

    act_fun.l.grid (I, G+2k+1), coef (I, O, G+k), mask, scale_base, scale_sp (I, O)
    symbolic_fun.l.mask (O, I), affine (O, I, 4)                          [out][in], unlike the others
    subnode_scale_l, subnode_bias_l (O,), node_scale_l, node_bias_l (Q,)

    edge = mask·(scale_base·b(x) + scale_sp·Σ_m coef_m·B_m(x)) + symbolic mask·(c·f(a·x + b) + d)

The masks are numbers: they are multiplied into the coefficients, c and d. An edge with both parts keeps both. The name
of f, the arities of multiplication nodes and the base function are in the settings, not in the arrays. Widths and
orders follow from the shapes; settings that contradict them are an error.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.data.near_names import first_names
from kanserve.errors import NetworkError
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.pykan_arrays import Part, edge_at, parts, refusal, unread
from kanserve.importers.pykan_live import live
from kanserve.importers.pykan_settings import (
    NO_FUNCTION,
    arity,
    bases,
    functions_of,
    guess_functions,
    keep_columns,
    require_agreement,
)
from kanserve.importers.repeated_knots import coincide, rewritten
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Base, Kan, Layer, Variable, make_layer
from kanserve.network.splines import uniform_knots

__all__ = ["LIBRARY", "convert", "live", "matches"]

Array = NDArray[np.float64]

LIBRARY = "pykan"

# Functions that pykan changes near poles and outside their domain with singularity_avoiding=True.
_PROTECTED = {name for name, row in FUNCTIONS.items() if row.domain} | {"exp"}


def matches(checkpoint: Checkpoint) -> bool:
    """Whether these arrays are pykan's, of any version."""
    return "act_fun.0.coef" in checkpoint.arrays


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint. Raises CheckpointError, with the place, if it is damaged or cannot be represented."""
    own = parts(checkpoint)
    with np.errstate(all="ignore"):  # products that overflow are refused as infinite
        return _convert(checkpoint, options, own)


def _convert(checkpoint: Checkpoint, options: Options, own: Sequence[Part]) -> Conversion:
    require_agreement(checkpoint, own)
    base, guess = bases(checkpoint, options, own)
    functions = [functions_of(checkpoint, number, part) for number, part in enumerate(own)]
    notes = [*([guess] if guess else ()), *_notes(checkpoint, own, functions)]
    layers = [
        _layer(checkpoint, number, part, base[number], functions[number], arity(checkpoint, own, number), notes)
        for number, part in enumerate(own)
    ]
    try:
        kan = Kan(
            tuple(layers),
            inputs=_inputs(checkpoint, options, own[0].inputs),
            outputs=tuple(map(Variable, options.outputs)),
        )
    except NetworkError as error:
        raise refusal(checkpoint, str(error)) from None
    return Conversion(kan, LIBRARY, tuple(notes))


def _layer(
    checkpoint: Checkpoint,
    number: int,
    part: Part,
    base: Base,
    names: Sequence[Sequence[str]],
    arities: list[int],
    notes: list[str],
) -> Layer:
    functions = np.array(names)
    share = part.symbolic_mask
    affine = part.affine * np.stack([np.ones_like(share), np.ones_like(share), share, share], axis=2)
    # The function 0 leaves only d, which is added to the subnode's bias.
    constant = np.where(functions == NO_FUNCTION, affine[..., 3], 0.0).sum(axis=1)
    named = ~np.isin(functions, ("", NO_FUNCTION))
    coefficients = ((part.mask * part.scale_sp)[..., None] * part.coef).transpose(1, 0, 2)
    knots, coefficients = _knots(checkpoint, number, part, coefficients, notes)
    weights = (part.mask * part.scale_base).T
    try:
        return make_layer(
            coefficients,
            knots=knots,
            order=part.order,
            base=base,
            base_weight=weights if base != "zero" else np.zeros_like(weights),
            extrapolation="zero",
            functions=np.where(named, functions, ""),
            affine=np.where(named[..., None], affine, [1.0, 0.0, 1.0, 0.0]),
            subnode_scale=part.subnode_scale,
            subnode_bias=part.subnode_bias + part.subnode_scale * constant,
            arity=arities,
            node_scale=part.node_scale,
            node_bias=part.node_bias,
        )
    except NetworkError as error:
        raise refusal(checkpoint, f"layer {number + 1}: {error}") from None


def _knots(
    checkpoint: Checkpoint, number: int, part: Part, coefficients: Array, notes: list[str]
) -> tuple[Array, Array]:
    """Make the knots increasing, and adapt the coefficients; adds a note if something had to be changed."""
    knots = part.grid.copy()
    idle = ~coefficients.any(axis=(0, 2))  # inputs without a spline: any grid will do
    knots[idle & (np.diff(knots, axis=1) <= 0).any(axis=1)] = uniform_knots(-1, 1, part.intervals, part.order)
    falling = np.argwhere(np.diff(knots, axis=1) < 0)
    if len(falling):
        raise refusal(
            checkpoint,
            f"layer {number + 1}, input {falling[0][0] + 1}: its knots decrease at number {falling[0][1] + 2} "
            f"(act_fun.{number}.grid); update the grid from samples.",
        )
    collapsed = knots[:, 0] == knots[:, -1]
    if not coincide(knots).any():
        return knots, coefficients
    touched = [int(i) + 1 for i in np.flatnonzero(coincide(knots))]
    if all(collapsed[i - 1] for i in touched):
        # On a grid of zero width every basis function is 0.
        coefficients = coefficients.copy()
        coefficients[:, collapsed] = 0.0
        knots[collapsed] = uniform_knots(-1, 1, part.intervals, part.order)
        notes.append(
            f"layer {number + 1}: the knots of input {_list(touched)} are all equal, where pykan's splines are 0: "
            "these splines were left out"
        )
        return knots, coefficients
    knots, coefficients, error = rewritten(knots, coefficients, part.order)
    notes.append(
        f"layer {number + 1}: knots of input {_list(touched)} coincide, and what pykan computes then is not a spline "
        f"on them: all splines of the layer were rewritten on other knots, equal to {error:.0e} of the largest value"
    )
    return knots, coefficients


def _inputs(checkpoint: Checkpoint, options: Options, count: int) -> tuple[Variable, ...]:
    """The input names in the options, else x with pykan's column numbers."""
    if options.inputs:
        return tuple(map(Variable, options.inputs))
    return tuple(Variable(f"x{column + 1}") for column in keep_columns(checkpoint, count) or ())


def _notes(checkpoint: Checkpoint, own: Sequence[Part], functions: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    """Notes that do not depend on the conversion of the layers."""
    said, notes = checkpoint.settings, list[str]()
    columns = keep_columns(checkpoint, own[0].inputs) or list(range(own[0].inputs))
    if columns != list(range(own[0].inputs)):
        notes.append(
            f"prune_input kept columns {_list([column + 1 for column in columns])}: rows have these only, so named"
        )
    elif getattr(said.get("base_fun_name"), "tag", ""):
        notes.append(
            "its base function is stored as an object, as prune_input leaves it: which inputs were kept is not in the "
            "file, so x1 is the first of them; inputs= names them"
        )
    used = {name for layer in functions for row in layer for name in row} - {"", NO_FUNCTION}
    if said.get("symbolic_enabled") is False and used:
        count = sum(int((part.symbolic_mask != 0).sum()) for part in own)
        notes.append(
            f"symbolic_enabled is false, and {count} edges have functions: they were imported. pykan leaves them out "
            "until symbolic_enabled is true (speed() turns it off, and so do checkpoints from within fit)"
        )
    if used & _PROTECTED:
        notes.append(
            f"imported is what forward(x) computes: {', '.join(sorted(used & _PROTECTED))} as they are, without the "
            "protection of forward(x, singularity_avoiding=True)"
        )
    guessed = guess_functions(checkpoint, own)
    if guessed:
        notes.append(f"functions that are not of pykan's library were taken by their names: {', '.join(guessed)}")
    notes += _mask(checkpoint, own)
    left = unread(checkpoint, len(own))
    if left:
        notes.append(f"arrays that are not of a MultKAN were left out: {first_names(left, 5)}")
    return notes


def _mask(checkpoint: Checkpoint, own: Sequence[Part]) -> list[str]:
    """A note on functions with mask 0, which are dropped here, while pykan's 0·log(-1) is NaN."""
    for number, part in enumerate(own):
        names = checkpoint.settings.get(f"symbolic.funs_name.{number}")
        if names is None:
            continue
        for j, i in np.argwhere(part.symbolic_mask == 0):
            row = FUNCTIONS.get(names[j][i]) if isinstance(names[j][i], str) else None
            if row is not None and row.domain:
                place = edge_at(number, i, j, products=part.products)
                return [
                    f"functions with the mask 0 were left out, as {row.name} of {place}; pykan's output is NaN where "
                    "they are not defined"
                ]
    return []


def _list(numbers: Sequence[int]) -> str:
    return first_names(numbers, 10, " and more")
