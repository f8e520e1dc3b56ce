"""The settings of laws that linear algebra finds at once: polynomials, rational functions and sums of known terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class ClosedFormSettings:
    """Settings of `sparse_polynomial` and `term_sums`, as `SearchSettings.closed_forms`."""

    largest_tolerance: float = 1e-8
    """Problems whose law may be off by more than this are skipped: their values are not exact."""

    # affine forms of two inputs
    affine_degree: int = 20
    """Degree of P and Q in y = P(x_j) + g(x_i)*Q(x_j), where every function g is tried."""
    affine_error: float = 1e-11
    """Largest error of such a form, relative to the root mean square of y."""

    # functions of a low polynomial
    near_degrees: tuple[int, int] = (3, 2)
    """Degree of the polynomials that a function of an inexact part may have, in one input and in more."""

    near_terms: int = 3
    """Terms of these polynomials, at most."""

    # rivals
    rivals_fall: float = 1e-5
    """Ratio of the error of a law to that of the polynomials that are its rivals, at most."""
    rivals_rounding: float = 1e-15
    """Errors relative to the largest output that are rounding."""
    rivals_singular: float = 3e-15
    """Largest singular value, for columns of length 1, that is rounding."""

    # power_laws
    power_law_rows: float = 0.5
    """Share of the rows, at least, on which no input and no output is 0, so that they have logarithms."""
    power_law_most_zeros: float = 0.05
    """Share of rows with an input of 0, at most, without which any law is tried first."""
    power_law_zero_errors: float = 5.0
    """Residual of a row with a 0, at most, in standard deviations of those of the other rows."""
    power_law_digits: int = 3
    """Decimals of an exponent, at most, to which it is rounded within its error."""
    power_law_chance: float = 0.05
    """Distance from such a number over that between two of them, at most: a larger one may be by chance."""
    power_law_rounding: float = 1e-9
    """Distance from a number with few digits up to which an exponent equals it in any case."""
    shifted_power_places: int = 14
    """Zeros of the base of c·(x + b)^p + d on the grid, on either side of the data."""
    shifted_power_exponents: tuple[float, ...] = (-3.4, -2.4, -1.6, -0.8, -0.3, 0.3, 0.7, 1.4, 1.7, 2.4, 3.3, 4.6)
    """Exponents on the grid."""
    shifted_power_starts: int = 4
    """Points of the grid from which the constants are fitted."""
    shifted_power_steps: int = 60
    """Steps of such a fit."""
    power_of_spline_snap: tuple[float, float] = (2e-2, 5e-3)
    """Distances within which the exponent of a power that a spline may be is rounded: to a fraction of a denominator up
    to 4, and to a longer number. The exact exponent is tried as well."""
    shifted_power_exact_error: float = 1e-9
    """Relative error up to which it is exact."""

    # sparse_polynomial
    polynomial_terms: int = 130
    """Terms before any is left out, at most; a fit takes time in proportion to their square."""
    polynomial_degrees: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({1: 10, 2: 8, 3: 6, 4: 5}))
    """Highest total degree by the number of inputs."""
    polynomial_other_degree: int = 3
    """Highest total degree with more inputs than those."""
    linked_degree: int = 4
    """Highest total degree under a function: a high one, of few rows, comes close to any smooth law."""
    linked_quotients: tuple[str, ...] = ("square", "log")
    """Links under which quotients are tried: of roots and of exponentials."""
    linked_quotient_degrees: int = 4
    """Largest sum of the degrees of such a quotient."""
    exponent_degrees: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({2: 4, 3: 2, 4: 2}))
    """Highest total degree of the inputs and their logarithms in an exponent, by the number of inputs."""
    polynomial_rows_per_term: int = 2
    """Rows needed per term: with fewer, any values are a polynomial."""
    polynomial_exact_error: float = 1e-10
    """Relative error up to which a polynomial is exact: high powers lose digits to one another."""
    polynomial_gap: float = 1e8
    """Smallest term over the error, at least. A series that was cut off has less: its terms shrink step by step."""
    quotient_degrees: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({1: 12, 2: 8, 3: 6}))
    """Largest sum of the degrees of P and Q by the number of inputs."""
    quotient_other_degrees: int = 4
    """Largest sum of the degrees with more inputs than those."""
    quotient_exact_error: float = 1e-13
    """Relative error of P - y·Q up to which P/Q is exact: its many terms come close to any smooth function."""
    quotient_least_term: float = 1e-3
    """Smallest term of P or y·Q over the largest: a Padé approximant, exact to rounding too, has far smaller ones."""

    # term_sums
    term_inputs: int = 2
    """Inputs up to which sums of terms are tried: the number of terms grows with their square."""
    term_rows: int = 300
    """Rows on which terms are ranked."""
    terms: int = 2000
    """Terms that are tried alone, the simplest first."""
    terms_in_pairs: int = 600
    """Terms of which all pairs are tried, the simplest: 50 ms."""
    term_candidates: int = 60
    """Terms and pairs that are fitted to all rows."""
    term_unexplained: float = 1e-8
    """Share of the variance that a term or pair may leave on the ranked rows."""
    term_exact_error: float = 1e-10
    """Relative error up to which a sum is exact."""
    term_choice: int = 1
    """Constants that the choice among all pairs of terms is worth."""
    term_largest_value: float = 1e9
    """Terms with larger values are not tried: the others would be lost to rounding."""
    term_rounding: float = 1e-9
    """Relative: smaller differences of a term from a constant, or of two terms, are rounding."""
    term_degree: int = 3
    """Degree of the polynomial beside the terms, at most."""

    # piecewise
    pieces: int = 6
    """Pieces at most."""
    piece_degree: int = 3
    """Degree of a piece, at most."""
    piece_rows: int = 8
    """Rows of a piece, at least."""
    piece_share: float = 0.02
    """Share of the rows in a piece, at least: any smooth law is a polynomial on few neighbours."""
    piece_rounding: float = 1e-14
    """Relative error of a polynomial at the ends of the rows of its fit."""

    # scaled_terms
    wave_inputs: int = 8
    """Inputs up to which products of two sines are tried: for every pair."""
    wave_share: float = 0.3
    """Share of the variance that a wave on the grid must explain before its frequencies are fitted."""
    bilinear_inputs: int = 3
    """Inputs up to which sines of bilinear forms are tried: for every pair."""
    bilinear_waves: int = 20
    """Frequencies of either sign, of each part of a bilinear form."""
    scaled_waves: int = 60
    """Frequencies of sines on the grid."""
    scaled_wave_step: float = 0.5
    """Step of the frequencies, in radians over half of the input's range: a fit finds the phase from half a step."""
    scaled_factors: tuple[float, float] = (0.3, 20.0)
    """Factors of other functions on the grid, over half of the input's range."""
    scaled_count: int = 16
    """Factors on the grid."""
    scaled_first: int = 24
    """Terms for which every second term is tried, the best alone."""
    scaled_alike: int = 3
    """Candidates of the same functions, with factors of the same signs: a law off the grid looks like many of them."""
    scaled_candidates: int = 20
    """Terms alone, and pairs, whose constants are fitted."""
    scaled_steps: int = 25
    """Steps of the fit."""
    scaled_damping: float = 1e-3
    """Of its first step, relative to the diagonal of the normal matrix."""
    scaled_most_damping: float = 1e4
    """The fit ends when a step with more damping gains nothing."""
    scaled_least_gain: float = 1e-4
    """Relative: a smaller gain of a step ends the fit."""
    scaled_largest_term: float = 1e4
    """Coefficients over the spread of the outputs, at most: close functions that cancel are a derivative."""
    scaled_degrees: tuple[int, ...] = (0, 1, 3)
    """Degrees of the polynomial beside the terms."""
    scaled_least: float = 1e-12
    """Least square of a column beside the others, relative: what is left of a smaller one is rounding."""

    # noisy_quotients
    noisy_degrees: Mapping[int, tuple[tuple[int, int], ...]] = field(
        default_factory=lambda: MappingProxyType(
            {1: ((1, 1), (2, 2), (3, 3)), 2: ((1, 1), (2, 2)), 3: ((1, 1), (2, 2)), 4: ((2, 0), (1, 1), (2, 1))}
        )
    )
    """Degrees of P and Q by the number of inputs, for outputs with noise."""
    noisy_other_degrees: tuple[tuple[int, int], ...] = ((2, 0), (1, 1))
    """Those with more inputs."""
    noisy_rows_per_term: int = 10
    """Rows for each term of P and Q, at least."""
    noisy_iterations: int = 3
    """Linear problems, each with the weights of the one before."""
    noisy_ridge: float = 1e-9
    """Added to the normal equations, relative to their diagonal: P and Q may have a factor in common."""
    noisy_least_slope: float = 1e-3
    """Least slope of a link, relative to its median slope."""
    noisy_least_divisor: float = 0.05
    """Least divisor in a weight, relative to their mean."""
    noisy_least_gain: float = 1e-6
    """Relative: a smaller gain of a step ends the fit."""
    noisy_tried_terms: int = 3
    """Terms that are tried, the least significant first, until the quotient without one is finite on all rows."""
    noisy_deviations: float = 3.0
    """Standard errors within which numbers are rounded to halves."""
    noisy_outside_share: float = 0.02
    """Share of the values at either end that may be anywhere, when links are chosen."""
    noisy_outside: float = 0.05
    """Standard deviations by which others may be out of a link's domain."""
    noisy_inside: float = 0.02
    """Standard deviations from its ends to which they are moved."""

    # noisy_forms
    noisy_inputs: int = 10
    """Inputs up to which such quotients are tried."""
    noisy_least_error: float = 0.03
    """Error of a polynomial, relative to the outputs' spread, from which noise is looked for even if the polynomial
    leaves more than noise."""
    noisy_judged: int = 3
    """Links whose quotients are fitted as networks, at most."""
    noisy_margin: float = 12.0
    """Quotients whose information criterion is higher than the best by more are not."""
    noisy_sure: float = 0.3
    """Largest relative standard error of the numbers of a quotient, relative to the error of the outputs, up to which
    it is sure if they are also simple: of 1000 samples, laws have up to 0.25, approximations mostly 1 and more."""
    noisy_sure_error: float = 0.1
    """Error of the outputs, relative to their spread, up to which this holds; with more, the numbers must be as exact
    as with this."""
    noisy_rival_fits: int = 1000
    """Fits in which another law is looked for after a quotient that is not sure."""
