"""The forms of one input that noisy samples are compared with: what people fit to curves, with free constants.

A form is written once, as NumPy's arithmetic over an input and its constants inside functions. Of arrays it gives the
values, of dual numbers their slopes too (`form_fits`), and of a `Written` input the tree (`trees.written`). What is
linear, the factors of its columns and a constant beside them, is not written: least squares gives it.

The letter of a constant is its role, which says from where fits start:

    r  rate: of either sign, up to ten lengths of the range            p  exponent
    f  frequency: the peaks of the periodogram                         m  place within the range
    w  width: of a bell or step, positive                              s  shift that moves the whole range above 0
    e  end beyond the range                                            a  phase
    q  frequency of the square of the input
    l  scale of a positive input, within the range                     c  factor near 1
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from kanserve.network.own_functions import Elementwise
from kanserve.network.special import erf, j0

# As functions that a dual number and a written input are asked for by name.
ERF, J0 = Elementwise("erf", erf, "all"), Elementwise("j0", j0, "all")

LEAST_RAMP = 1e-100  # of what is raised to a power: at 0 that has no slope

Columns = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Form:
    """Columns as functions of an input and of constants (one role each); their weighted sum is the curve. `positive`
    forms need positive inputs; those with a `parity` are for curves that are "even" or "odd" about 0."""

    name: str
    roles: str
    columns: Columns
    positive: bool = False
    parity: str = ""

    def __call__(self, x: Any, constants: Any) -> tuple[Any, ...]:
        return self.columns(x, *constants)

    @property
    def waves(self) -> bool:
        return "f" in self.roles


def _forms(positive: bool, **rows: tuple[str, Columns]) -> dict[str, Form]:
    return {name: Form(name.replace("_", " "), *row, positive) for name, row in rows.items()}


TERMS = _forms(
    False,
    line=("", lambda x: (x,)),
    parabola=("", lambda x: (x * x,)),
    exponential=("r", lambda x, r: (np.exp(r * x),)),
    wave=("f", lambda x, f: (np.sin(f * x), np.cos(f * x))),
    logarithm=("s", lambda x, s: (np.log(x + s),)),
    hinge=("m", lambda x, m: (np.abs(x - m), x)),
    bell=("mw", lambda x, m, w: (np.exp(-(((x - m) / w) ** 2)),)),
    lorentzian=("mw", lambda x, m, w: (1 / (1 + ((x - m) / w) ** 2),)),
    step=("mw", lambda x, m, w: (np.tanh((x - m) / w),)),
    hyperbola=("s", lambda x, s: (1 / (x + s),)),
) | _forms(
    True,
    power=("p", lambda x, p: (x**p,)),
    hill=("lp", lambda x, size, p: (1 / (1 + (x / size) ** p),)),
    stretched_exponential=("lp", lambda x, size, p: (np.exp(-((x / size) ** p)),)),
)
"""The terms of sums of two."""

SINGLE = _forms(
    False,
    line_and_parabola=("", lambda x: (x, x * x)),
    line_and_cube=("", lambda x: (x, x * x * x)),
    tanh_of_the_input=("w", lambda x, w: (np.tanh(x / w),)),
    error_function_of_the_input=("w", lambda x, w: (ERF(x / w),)),
    arctangent_of_the_input=("w", lambda x, w: (np.arctan(x / w),)),
    hyperbolic_sine=("w", lambda x, w: (np.sinh(x / w),)),
    bell_around_0=("w", lambda x, w: (np.exp(-((x / w) ** 2)),)),
    lorentzian_around_0=("w", lambda x, w: (1 / (1 + (x / w) ** 2),)),
    secant_around_0=("w", lambda x, w: (1 / np.cosh(x / w),)),
    bessel_function=("w", lambda x, w: (J0(x / w),)),
    error_function=("mw", lambda x, m, w: (ERF((x - m) / w),)),
    logistic=("mw", lambda x, m, w: (1 / (1 + np.exp((m - x) / w)),)),
    kink=("m", lambda x, m: (np.abs(x - m),)),
    ramp=("m", lambda x, m: (np.maximum(x - m, 0.0),)),
    power_of_a_ramp=("mp", lambda x, m, p: (np.maximum(x - m, LEAST_RAMP) ** p,)),
    square_root=("s", lambda x, s: (np.sqrt(x + s),)),
    shifted_power=("sp", lambda x, s, p: ((x + s) ** p,)),
    falling_root=("e", lambda x, e: (np.sqrt(e - x),)),
    falling_power=("ep", lambda x, e, p: ((e - x) ** p,)),
    falling_logarithm=("e", lambda x, e: (np.log(e - x),)),
    rising_hyperbola=("e", lambda x, e: (1 / (e - x),)),
    ellipse=("e", lambda x, e: (np.sqrt(1 - (x / e) ** 2),)),
    power_of_an_ellipse=("ep", lambda x, e, p: ((1 - (x / e) ** 2) ** p,)),
    arcsine=("e", lambda x, e: (np.arcsin(x / e),)),
    inverse_hyperbolic_tangent=("e", lambda x, e: (np.arctanh(x / e),)),
    inverse_hyperbolic_sine=("w", lambda x, w: (np.arcsinh(x / w),)),
    tangent=("r", lambda x, r: (np.tan(r * x / 8),)),
    arctangent=("mw", lambda x, m, w: (np.arctan((x - m) / w),)),
    softplus=("mw", lambda x, m, w: (np.log(1 + np.exp((x - m) / w)),)),
    smooth_kink=("mw", lambda x, m, w: (np.sqrt((x - m) ** 2 + w * w),)),
    pulse=("mw", lambda x, m, w: (1 / np.cosh((x - m) / w) ** 2,)),
    catenary=("mw", lambda x, m, w: (np.cosh((x - m) / w),)),
    double_exponential=("rr", lambda x, a, b: (np.exp(-np.exp(a * x + 10 * b)),)),
    generalised_logistic=("mwp", lambda x, m, w, p: ((1 + np.exp((m - x) / w)) ** -p,)),
    line_times_exponential=("r", lambda x, r: (x * np.exp(r * x),)),
    line_and_constant_times_exponential=("r", lambda x, r: (x * np.exp(r * x), np.exp(r * x))),
    well=("r", lambda x, r: (np.exp(r * x), np.exp(2 * r * x))),
    damped_wave=("fr", lambda x, f, r: (np.sin(f * x) * np.exp(r * x), np.cos(f * x) * np.exp(r * x))),
    wave_packet=(
        "fmw",
        lambda x, f, m, w: (
            np.sin(f * x) * np.exp(-(((x - m) / w) ** 2)),
            np.cos(f * x) * np.exp(-(((x - m) / w) ** 2)),
        ),
    ),
    wave_times_line=("f", lambda x, f: (x * np.sin(f * x), x * np.cos(f * x))),
    sine=("f", lambda x, f: (np.sin(f * x),)),
    cosine=("f", lambda x, f: (np.cos(f * x),)),
    sine_of_the_square=("q", lambda x, q: (np.sin(q * x * x),)),
    cosine_of_the_square=("q", lambda x, q: (np.cos(q * x * x),)),
    wave_of_the_square=("q", lambda x, q: (np.sin(q * x * x), np.cos(q * x * x))),
    chirp=("fr", lambda x, f, r: (np.sin(f * x + r * x * x), np.cos(f * x + r * x * x))),
    rectified_wave=("fa", lambda x, f, a: (np.abs(np.sin(f * x + a)),)),
    wave_over_input=("f", lambda x, f: (np.sin(f * x) / x,)),
    fall_behind_a_front=("rmw", lambda x, r, m, w: (np.exp(r * x) / (1 + np.exp((m - x) / w)),)),
    dispersion=("mw", lambda x, m, w: (1 / (1 + ((x - m) / w) ** 2), x / (1 + ((x - m) / w) ** 2))),
    line_and_constant_over_parabola=("w", lambda x, w: (1 / (1 + (x / w) ** 2), x / (1 + (x / w) ** 2))),
    line_over_parabola=("w", lambda x, w: (x / (1 + (x / w) ** 2),)),
    exponential_of_a_parabola=("rr", lambda x, a, b: (np.exp(a * x + b * x * x / 4),)),
    exponential_of_a_wave=("fac", lambda x, f, a, c: (np.exp(c * np.sin(f * x + a)),)),
    logarithm_of_a_parabola=("mw", lambda x, m, w: (np.log(1 + ((x - m) / w) ** 2),)),
) | _forms(
    True,
    root_of_the_input=("", lambda x: (np.sqrt(x),)),
    root_of_the_cube=("", lambda x: (x * np.sqrt(x),)),
    reciprocal=("", lambda x: (1 / x,)),
    reciprocal_square=("", lambda x: (1 / (x * x),)),
    saturation=("l", lambda x, size: (x / (x + size),)),
    saturating_exponential=("l", lambda x, size: (1 - np.exp(-x / size),)),
    saturating_logarithm=("l", lambda x, size: (np.log(1 + x / size),)),
    saturating_stretched_exponential=("lp", lambda x, size, p: (1 - np.exp(-((x / size) ** p)),)),
    logarithm_of_the_input=("", lambda x: (np.log(x),)),
    square_root_of_the_input=("", lambda x: (np.sqrt(x),)),
    reciprocal_of_the_input=("", lambda x: (1 / x,)),
    logarithmic_parabola=("", lambda x: (np.log(x), np.log(x) ** 2)),
    logit=("e", lambda x, e: (np.log(x / (e - x)),)),
    exponential_of_a_hyperbola=("ls", lambda x, size, s: (np.exp(-size / (x + s)),)),
    arrhenius=("l", lambda x, size: (np.exp(-size / x),)),
    power_times_exponential=("pr", lambda x, p, r: (x**p * np.exp(r * x),)),
    power_times_logarithm=("p", lambda x, p: (x**p * np.log(x),)),
    power_times_wave=("fp", lambda x, f, p: (x**p * np.sin(f * x), x**p * np.cos(f * x))),
    power_over_line=("pl", lambda x, p, size: (x**p / (1 + x / size),)),
    weibull_density=("lp", lambda x, size, p: (x ** (p - 1) * np.exp(-((x / size) ** p)),)),
    lognormal=("lw", lambda x, size, w: (np.exp(-((np.log(x / size) / w) ** 2)),)),
    inhibition=("ll", lambda x, size, k: (x / (1 + x / size + (x / k) ** 2),)),
    planck=("r", lambda x, r: (x**3 / (np.exp(r * x) - 1),)),
    wien=("r", lambda x, r: (1 / (x**5 * (np.exp(r / x) - 1)),)),
    bose=("r", lambda x, r: (1 / (np.exp(r * x) - 1),)),
    langevin=("w", lambda x, w: (1 / np.tanh(x / w) - w / x,)),
    arctangent_of_a_power=("lp", lambda x, size, p: (np.arctan((x / size) ** p),)),
    tanh_of_a_power=("lp", lambda x, size, p: (np.tanh((x / size) ** p),)),
    arcsine_of_a_power=("ep", lambda x, e, p: (np.arcsin((x / e) ** p),)),
    power_times_power_of_an_ellipse=("epp", lambda x, e, p, q: (x**p * (1 - (x / e) ** 2) ** q,)),
    power_times_power_of_a_line=("lpp", lambda x, size, p, q: (x**p * (1 + x / size) ** q,)),
    power_times_power_of_a_parabola=("lpp", lambda x, size, p, q: (x**p * (1 + (x / size) ** 2) ** q,)),
    line_over_logarithm=("l", lambda x, size: (x / np.log(1 + x / size),)),
    logarithm_of_a_power=("lp", lambda x, size, p: (np.log(1 + (x / size) ** p),)),
    power_of_one_and_a_power=("lpp", lambda x, size, p, q: ((1 + (x / size) ** p) ** q,)),
    root_of_one_and_a_square=("l", lambda x, size: (np.sqrt(1 + (x / size) ** 2),)),
)
"""Other forms, which are compared alone."""

NESTED = (
    {name: TERMS[name] for name in ("exponential", "wave", "logarithm", "bell", "step", "power")}
    | {
        **{name: SINGLE[name] for name in ("arctangent", "error_function", "softplus", "square_root", "falling_root")},
        **{name: SINGLE[name] for name in ("falling_logarithm", "arcsine", "inverse_hyperbolic_tangent")},
        **{name: SINGLE[name] for name in ("inverse_hyperbolic_sine", "wave_of_the_square", "exponential_of_a_wave")},
        **{name: SINGLE[name] for name in ("logarithm_of_a_parabola", "bessel_function", "damped_wave")},
        **{name: TERMS[name] for name in ("stretched_exponential",)},
    }
    | _forms(
        False,
        exponential_of_the_size=("r", lambda x, r: (np.exp(r * np.abs(x)),)),
        size=("", lambda x: (np.abs(x),)),
        wave_of_the_logarithm=("cs", lambda x, c, s: (np.sin(c * np.log(x + s)), np.cos(c * np.log(x + s)))),
        exponential_over_the_input=("w", lambda x, w: (np.exp(-w / x),)),
        exponential_of_the_root=("rs", lambda x, r, s: (np.exp(r * np.sqrt(x + s)),)),
    )
)
"""Functions that exact values are compared with, each by itself and times the input, beside a parabola."""

TRIPLES = (
    ("exponential", "exponential", "exponential"),
    ("exponential", "exponential", "line"),
    ("bell", "bell", "bell"),
    ("bell", "bell", "line"),
    ("bell", "exponential", "line"),
    ("lorentzian", "lorentzian", "line"),
    ("wave", "wave", "wave"),
    ("wave", "wave", "line"),
    ("wave", "line", "parabola"),
    ("wave", "exponential", "line"),
    ("exponential", "line", "parabola"),
    ("logarithm", "line", "parabola"),
    ("power", "line", "parabola"),
    ("step", "step", "line"),
)
"""The terms of sums of three."""


def one_input_forms() -> Iterator[Form]:
    """All forms: single functions, the sums of two terms, and some sums of three."""
    yield from TERMS.values()
    yield from SINGLE.values()
    for pair in combinations_with_replacement(TERMS, 2):
        if (pair[0] != pair[1] or TERMS[pair[0]].roles) and pair != ("line", "hinge"):
            yield _sum(*(TERMS[name] for name in pair))
    yield from (_sum(*(TERMS[name] for name in names)) for names in TRIPLES)
    for name in ("damped_wave", "line_times_exponential", "wave_times_line", "wave_of_the_square"):
        for other in ("line", "exponential", "bell"):
            yield _sum(SINGLE[name], TERMS[other])
    for form in (*TERMS.values(), *SINGLE.values()):
        yield odd_form(form)
        if not _is_even(form):
            yield even_form(form)


def even_form(form: Form) -> Form:
    """The form of the absolute value of the input, such as exp(-|x|)."""
    return Form(f"{form.name} of |x|", form.roles, lambda x, *constants: form(np.abs(x), constants), parity="even")


def odd_form(form: Form) -> Form:
    """The input times the form of its absolute value, such as x*|x| or x*exp(-|x|)."""
    size = (lambda x: x) if _is_even(form) else np.abs

    def columns(x: Any, *constants: Any) -> tuple[Any, ...]:
        return tuple(x * column for column in form(size(x), constants))

    return Form(f"x times {form.name} of |x|", form.roles, columns, parity="odd")


def _is_even(form: Form) -> bool:
    if form.positive:
        return False
    constants = [1.7 + 0.1 * n for n in range(len(form.roles))]
    with np.errstate(all="ignore"):
        return bool(np.array_equal(form(np.array([-0.9]), constants), form(np.array([0.9]), constants)))


def beside_powers(form: Form, powers: Sequence[int] = (1, 2), factors: Sequence[int] = (0, 1)) -> Form:
    """A form times each of `factors` powers of the input, plus powers of the input, with one coefficient each."""

    def columns(x: Any, *constants: Any) -> tuple[Any, ...]:
        own = form(x, constants)
        return (
            *(x**power for power in powers),
            *(x**power * column if power else column for power in factors for column in own),
        )

    beside = "".join(f" + x^{power}" for power in powers)
    return Form(f"{form.name} times {tuple(factors)}{beside}", form.roles, columns, form.positive)


def _sum(*forms: Form) -> Form:
    def columns(x: Any, *constants: Any) -> tuple[Any, ...]:
        found: list[Any] = []
        for form, own in zip(forms, _split_constants(constants, forms), strict=True):
            found += form(x, own)
        return tuple(found)

    roles = "".join(form.roles for form in forms)
    return Form(" + ".join(form.name for form in forms), roles, columns, any(form.positive for form in forms))


def _split_constants(constants: tuple[Any, ...], forms: tuple[Form, ...]) -> Iterator[tuple[Any, ...]]:
    at = 0
    for form in forms:
        yield constants[at : at + len(form.roles)]
        at += len(form.roles)
