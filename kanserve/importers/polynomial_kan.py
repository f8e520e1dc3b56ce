"""KANs of polynomials (ChebyKAN, JacobiKAN and those of Legendre, Hermite, Gegenbauer, Laguerre, Bessel).

    y_j = Σ_i Σ_n c[i, j, n]·p_n(tanh(x_i))

| array | shape | |
|---|---|---|
| layers.{l}.cheby_coeffs | (I, O, degree + 1) | the name says which polynomials; see `_NAMES` |
| layers.{l}.arange | (degree + 1,) | 0, 1, 2 and so on; not needed |

Neither tanh nor the constants of Jacobi's, Gegenbauer's and Laguerre's polynomials are in the file. A layer becomes
two: tanh of each input (or the input clamped to [-1, 1]), then splines of order `degree`, exactly
(`polynomial_splines`).
"""

import re
from typing import Any

import numpy as np

from kanserve.errors import CheckpointError
from kanserve.importers.conversion import Basis, Checkpoint, Conversion, Options
from kanserve.importers.function_layers import check_size, each_input
from kanserve.importers.polynomial_splines import FAMILIES, LARGEST_DEGREE, knots_of, polynomials, spline_coefficients
from kanserve.importers.state_dict_layers import Stored, build_layer, check_chain, live_parts, stack, variables
from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.network.splines import uniform_knots

LIBRARY = "polynomial-kan"
_NAMES: dict[str, Basis] = {
    "cheby_coeffs": "chebyshev",
    "cheby2_coeffs": "chebyshev2",
    "legendre_coeffs": "legendre",
    "hermite_coeffs": "hermite",
    "jacobi_coeffs": "jacobi",
    "gegenbauer_coeffs": "gegenbauer",
    "laguerre_coeffs": "laguerre",
    "bessel_coeffs": "bessel",
}
# Arrays of these names are of layers that differ from project to project.
_VERSIONS = {
    "jacobi_coeffs": "JacobiKAN has Jacobi's polynomials and OrthogPolyKANs another recurrence, under one name: say"
    " basis='jacobi' if yours are Jacobi's.",
    "fib_coeffs": "Some versions of this layer pass each polynomial through tanh, which is another network: say"
    " basis='fibonacci' if yours does not.",
    "lucas_coeffs": "Some versions of this layer pass each polynomial through tanh, which is another network: say"
    " basis='lucas' if yours does not.",
}
_COEFFICIENTS = re.compile(r"(?:.*_)?coeffs?")
_OTHERS = ("arange",)
# The attributes of live layers that hold the constants of a family.
_ATTRIBUTES = {"jacobi": (("a",), ("b",)), "gegenbauer": (("alpha_param", "alpha"),), "laguerre": (("alpha",),)}
_USUAL_RANGE = 3.0  # of inputs that are squashed


def matches(checkpoint: Checkpoint) -> bool:
    """Whether there are coefficients (I, O, degree + 1) named after polynomials, or just "coeffs"."""
    return bool(_names(checkpoint))


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint, exactly up to rounding. Raises CheckpointError if the kind of polynomials is unclear."""
    name = _names(checkpoint)[0]
    basis = _basis(checkpoint, name, options)
    notes = []
    if options.squash is None:
        notes.append("The inputs of each layer are taken to pass through tanh, which no file says. Say squash= if not.")
    layers: list[Layer] = []
    shapes = []
    for stored in stack(checkpoint, LIBRARY, (name,), _OTHERS):
        constants, guessed = _constants(stored, basis, checkpoint, options)
        if guessed:
            names = zip(FAMILIES[basis].constants, constants, strict=True)
            said = " and ".join(f"{constant} = {value:g}" for constant, value in names)
            notes.append(f"{stored.place}: {said} is taken, as usual; it is not stored. Say parameters= if not.")
        weights = stored.array(name, "input", "node", "polynomial")
        inputs, nodes, count = weights.shape
        if count - 1 > LARGEST_DEGREE:
            raise CheckpointError(
                f"{stored.place} has polynomials of degree {count - 1}; {LARGEST_DEGREE} is the most. Above it, the "
                "powers that exports evaluate cancel so far that 12 digits are not left."
            )
        check_size(stored.place, inputs, inputs**2)
        try:
            series = polynomials(basis, count - 1, constants)
        except ZeroDivisionError:
            said = ", ".join(f"{constant:g}" for constant in constants)
            raise CheckpointError(
                f"{stored.place}: the recurrence of the {basis} polynomials divides by 0 at {said}."
            ) from None
        knots = knots_of(count - 1)
        matrix = spline_coefficients(series, knots)
        with np.errstate(over="ignore", invalid="ignore"):
            coefficients = np.einsum("ion,mn->oim", weights, matrix)
        splines = build_layer(stored, coefficients, knots=knots, order=max(count - 1, 1), base="zero")
        layers += [_squashing(options.squash or "tanh", inputs), splines]
        shapes.append((nodes, inputs))
    check_chain(shapes)
    return Conversion(Kan(tuple(layers), *variables(options)), LIBRARY, tuple(notes))


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live model, including the constants of its polynomials."""
    names = _names(Checkpoint(dict(model.state_dict())))
    arrays, layers = live_parts(model, (*names, *_OTHERS), LIBRARY)
    attributes = _ATTRIBUTES.get(_NAMES.get(names[0], ""), ())
    known = [[_attribute(layer, choices) for choices in attributes] for layer in layers]
    return Checkpoint(arrays, {"constants": known}, f"the {type(model).__name__}")


def _attribute(layer: Any, names: tuple[str, ...]) -> float | None:
    found = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    return None if found is None else float(found)


def _names(checkpoint: Checkpoint) -> list[str]:
    """The names of coefficient arrays, without the prefixes of layers."""
    found = (
        key.rpartition(".")[2]
        for key, array in checkpoint.arrays.items()
        if array.ndim == 3 and _COEFFICIENTS.fullmatch(key.rpartition(".")[2])
    )
    return list(dict.fromkeys(found))


def _basis(checkpoint: Checkpoint, name: str, options: Options) -> Basis:
    if len(names := _names(checkpoint)) > 1:
        raise CheckpointError(f"{checkpoint.name} has layers of several bases, {', '.join(names)}; one is taken.")
    known = _NAMES.get(name)
    if known is not None and options.basis not in (None, known):
        raise CheckpointError(f"{checkpoint.name}: {name} is of {known} polynomials, and basis is {options.basis!r}.")
    layers = checkpoint.settings.get("constants", ())
    said = layers and all(layer and None not in layer for layer in layers)  # by the attributes of JacobiKAN's layers
    basis = options.basis or (None if name in _VERSIONS and not said else known)
    if basis is None:
        key, array = next((key, array) for key, array in checkpoint.arrays.items() if key.endswith(name))
        hint = _VERSIONS.get(name, f"Say basis=, one of {', '.join(FAMILIES)}.")
        raise CheckpointError(
            f"{checkpoint.name}: {key!r} {array.shape} are coefficients of polynomials (inputs, nodes, degree + 1), and"
            f" which these are is not in the file. {hint}"
        )
    return basis


def _constants(
    stored: Stored, basis: Basis, checkpoint: Checkpoint, options: Options
) -> tuple[tuple[float, ...], bool]:
    """The constants of the polynomials, and whether they were assumed."""
    family = FAMILIES[basis]
    names = ", ".join(family.constants)
    if options.parameters:
        if len(options.parameters) != len(family.constants):
            wanted = f"parameters {names}" if names else "no parameters"
            raise CheckpointError(f"The {basis} polynomials have {wanted}; got {len(options.parameters)} numbers.")
        return options.parameters, False
    layers = checkpoint.settings.get("constants", ())
    known = layers[stored.number - 1] if layers else ()
    if known and None not in known:
        return tuple(known), False
    if family.usual is None:
        raise CheckpointError(
            f"{stored.place}: {names} of the {basis} polynomials is not in the file. Say parameters=[..]."
        )
    return family.usual, bool(family.usual)


def _squashing(squash: str, inputs: int) -> Layer:
    """A layer that maps each input to [-1, 1]."""
    if squash == "tanh":
        return each_input([("tanh", 1.0)], inputs, -_USUAL_RANGE, _USUAL_RANGE)
    # Far outside, evaluation keeps the level only to a rounding of x: 1e-12 for |x| up to 4,000.
    clamped = np.eye(inputs)[:, :, None] * [-1.0, -1.0, 1.0, 1.0]  # at -3, -1, 1 and 3, and level from there on
    return make_layer(clamped, knots=uniform_knots(-_USUAL_RANGE, _USUAL_RANGE, 3, 1), order=1, base="zero")
