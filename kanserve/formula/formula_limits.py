"""Every tolerance and limit of writing, simplifying and reading formulas, with its meaning.

`LIMITS` has them; they are the same for all calls.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FormulaLimits:
    """Tolerances and limits, named after the module that uses them."""

    # algebra
    algebra_most_terms: int = 60
    """Of a polynomial that is multiplied out."""
    algebra_most_work: int = 200_000
    """Products of terms in all."""
    algebra_cancels: float = 1e-12
    """Relative to the larger: two coefficients whose sum is below this cancel."""
    algebra_vanishes: float = 1e-11
    """Relative to a sum: a term below this on every row is dropped."""
    algebra_whole: float = 1e-9
    """An exponent this close to a multiple of 1/12 is rounded to it."""
    algebra_key_digits: int = 10
    """Significant digits of coefficients when polynomials are compared."""

    # extract
    extract_most_variants: int = 12
    """Ways to write one polynomial that are compared."""
    extract_most_tried: int = 100
    """Polynomials; later ones are written as they are."""
    extract_deepest: int = 12
    """Levels of nested polynomials that are simplified; deeper ones are written as they are."""
    extract_longest_scaled: int = 6
    """Terms of a bracket that is simplified again for each way to scale it."""
    extract_most_collected: int = 3
    """Factors to collect, the most frequent first."""
    extract_sum_of_powers: float = 1.15
    """Times the cost of the simplest form: a polynomial in one input is written as a sum of powers up to this."""
    extract_largest_ratio: int = 4
    """Of the factors of logarithms that are merged."""
    extract_largest_logarithm: float = 600.0
    """Of a factor; a double overflows above 709."""

    # factoring
    factoring_agrees: float = 1e-9
    """Relative difference up to which a product is the polynomial that it was split from."""
    factoring_most_atoms: int = 7
    """Of a polynomial that is split by its atoms: 63 ways."""
    factoring_most_terms: int = 30
    """Of a polynomial that is split; longer ones stay sums."""
    factoring_most_steps: int = 40
    """Of a polynomial division or square root."""

    # identities
    identities_phase: float = 1e-12
    """A phase this close to a multiple of pi/2 is rounded to it."""
    identities_largest_exponent: float = 600.0
    """Of exp as a factor; larger ones could overflow."""

    # rational
    rational_same: float = 1e-9
    """Coefficients this close, relatively, are equal."""

    # rewrites
    rewrites_same: float = 1e-12
    """Coefficients this close, relatively, and costs this close differ by rounding."""
    rewrites_nameless: float = 60.0
    """Bits of a number without a name."""
    rewrites_of_bits: float = 0.01
    """Cost of a bit, where an operation costs 1."""
    rewrites_of_a_variable: float = 0.03
    """Extra cost, where an operation costs 1: n*(1 + a) is simpler than n + n*a."""
    rewrites_sign: float = 0.005
    """Cost of a sign, where an operation costs 1: b - a is simpler than -(a - b)."""

    # saturation
    saturation_argument: float = 3.0
    """Size of the argument from which a tanh is nearly 1 or -1."""
    saturation_share: float = 0.98
    """Share of the rows with such an argument for which it is a step."""

    # simplify
    simplify_most_rows: int = 128
    """On which signs and sizes are evaluated."""
    simplify_most_steps: int = 300
    """A longer tree is only folded."""
    simplify_worth: float = 0.5
    """Complexity that a result may add, so that equal formulas get one form: 1/sqrt(u^3), exp(-1.5*log(u))."""
    simplify_differs: float = 1e-9
    """Relative to the root mean square of the values."""

    # constants
    constants_most_rounds: int = 4
    """Of recognising and simplifying."""
    constants_digits: int = 6
    """Shown of a number without a name."""

    # exact_constants
    exact_constants_exact: float = 1e-8
    """Relative to the size of y: a larger error is not an exact fit."""
    exact_constants_rise: float = 3.0
    """Times the previous error: the rise that rounding may cause in an exact fit."""
    exact_constants_rounding: float = 1e-14
    """Relative to the size of y: an error that is always allowed."""
    exact_constants_most_tried: int = 4
    """Names per constant."""

    # noisy_constants
    noisy_constants_deviations: float = 3.5
    """Standard errors within which simple numbers are considered."""
    noisy_constants_most_compared: int = 12
    """Names per constant."""
    noisy_constants_prior: float = -1.0
    """Bits added to a number without a name: negative, so that it is the more probable one a priori."""
    noisy_constants_believed: float = 0.6
    """Of the probability."""
    noisy_constants_rare: float = 3.0
    """Extra bits of numbers that are rare in laws; 1/log(10) is not, being in decimal logarithms."""
    noisy_constants_full_rows: int = 1000
    """Rows for which the limits of chi-squared are meant; fewer allow less, in proportion to their logarithm."""
    noisy_constants_first: float = -3000.0
    """Ranks of what is tried before everything else."""
    noisy_constants_second: float = -1000.0
    """Rank of what is tried next."""

    # nonlinear_fit
    nonlinear_fit_most_iterations: int = 60
    """Of Levenberg-Marquardt on the constants of a formula."""
    nonlinear_fit_directions: float = 1e-10
    """Relative to the largest singular value: directions below this are not followed."""
    nonlinear_fit_first_damping: float = 1e-3
    """Damping that a fit of constants begins with."""
    nonlinear_fit_most_damping: float = 1e3
    """Damping at which a fit of constants ends."""
    nonlinear_fit_settled: float = 1e-15
    """Relative to the size of y: an error at rounding level."""

    # robust_fit
    robust_fit_huber: float = 1.345
    """Deviations up to which residuals count as in least squares: 95% as efficient if they are normal (Huber)."""
    robust_fit_degrees: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)
    """Degrees of freedom that a t may have."""
    robust_fit_most_steps: int = 50
    """Of the iteratively reweighted least squares of a loss."""
    robust_fit_scale_steps: int = 100
    """Of the iteration for the scale of a t."""
    robust_fit_settled: float = 1e-3
    """A smaller move, relative to the standard error of a mean, ends the iteration."""
    robust_fit_scale_settled: float = 1e-6
    """A smaller relative change ends the iteration for the scale."""
    robust_fit_most_rows: int = 20_000
    """Residuals by which their distribution is known well enough."""
    robust_fit_least_scale: float = 1e-15
    """Relative to the outputs: residuals below are rounding."""
    robust_fit_least_slope: float = 0.1
    """Least mean derivative of the influence of a residual, by which its pseudo-value is divided."""

    # uncertainty
    uncertainty_undetermined: float = 1e-10
    """Relative to the largest singular value: the data do not determine a direction below this."""
    uncertainty_takes_part: float = 1e-6
    """In a unit vector: a constant with a smaller component is not affected by the direction."""

    # uncertainty_report
    uncertainty_report_most_constants: int = 300
    """Beyond, nobody reads the errors, and their covariance takes long."""
    uncertainty_report_most_alternatives: int = 1000
    """Formulas that are listed beside the chosen one."""
    uncertainty_report_most_derivatives: int = 50_000_000
    """Constants × rows, 400 MB."""
    uncertainty_report_longest_constant: int = 100
    """Characters."""
    uncertainty_report_agreement: float = 1e-6
    """Relative to the outputs: far above rounding, far below the difference of two alternatives."""

    # checking
    checking_tolerance: float = 1e-9
    """Of the scale of an output."""
    checking_overflowing: float = 1e290
    """Values beyond this are close to overflow: their rows are not compared."""
    checking_most_rows: int = 1000
    """Rows on which a formula is compared with its network."""
    checking_fewest_rows: int = 16
    """Rows on which a formula is compared with its network, at least."""
    checking_most_values: int = 10_000_000
    """Edges × outputs × rows; a very wide network is compared on fewer rows."""

    # complexity
    complexity_one_over: float = 2.0
    """The number and the sign of what is printed as 1/x."""
    complexity_spline: float = 20.0
    """A table of numbers."""

    # linear_forms
    linear_forms_same: float = 1e-14
    """Two constants this close, relatively, differ only by rounding."""
    linear_forms_phase: float = 1e-12
    """A phase this close to a multiple of pi/2 is rounded to it."""
    linear_forms_longest_spliced: int = 8
    """Longer sums stay shared steps."""
    linear_forms_largest_exponent: float = 20.0
    """Exp(x + b) becomes e^b·exp(x) up to this b; beyond, e^b reads worse and could overflow."""

    # names
    names_longest: int = 60
    """Characters of a name that are shown; C99 distinguishes the first 63."""

    # numbers
    numbers_largest: int = 199
    """Numerator or denominator."""
    numbers_largest_of_both: int = 12
    """The smaller of numerator and denominator."""
    numbers_first_rare: int = 7
    """The first prime that costs more bits."""
    numbers_digits: int = 10
    """Of a decimal."""
    numbers_decimal: float = 2.0
    """Bits for being a decimal; those for the position of its point are extra."""
    numbers_same: float = 4e-16
    """Two doubles this close, relatively, are the same number computed in two ways."""
    numbers_most_bits: float = 28.0
    """Of a number that is recognised by name: 7 digits and the point."""

    # parsing
    parsing_max_length: int = 10_000
    """Characters."""
    parsing_max_nesting: int = 50
    """Signs, powers, brackets and functions within one another."""
    parsing_most_compared: int = 50
    """Arguments of max and min, in all, each beyond the first: each adds a layer to a network."""
    parsing_shown: int = 60
    """Characters of the text around an error."""

    # storage
    storage_longest_text: int = 16_000_000
    """Characters of a stored formula."""

    # tree
    tree_max_steps: int = 1_000_000
    """Steps of one tree."""
    tree_max_references: int = 4_000_000
    """References between the steps of one tree."""
    tree_max_depth: int = 10_000
    """Steps on the longest path through a tree."""
    tree_max_power: int = 64
    """Largest exponent of a power step."""
    tree_max_column: int = 1_000_000
    """Number of the last input."""
    tree_max_pieces: int = 100_000
    """Intervals of one table."""
    tree_max_order: int = 32
    """Order of the splines of a table."""

    # domains
    domains_most: int = 100
    """Conditions that are listed."""
    domains_operations: int = 25
    """Of an expression within a condition; longer ones have "…"."""
    domains_characters: int = 2000
    """Of a printed condition."""

    # expression_trees
    expression_trees_largest_offset: float = 1000.0
    """A shift of more than this many scales would lose digits if expanded; x - shift is kept instead."""
    expression_trees_longest_folded: int = 8
    """Longer sums are not expanded into the next layer."""

    # formulas
    formulas_characters: int = 25
    """Of a printed formula, per operation of its limit."""
    formulas_settled_on: int = 128
    """Rows on which rounding noise is measured."""
    formulas_most_values: int = 10_000_000
    """Edges × rows; the constants of a larger network are not cleaned of rounding noise."""
    formulas_left_out: float = 0.1
    """Share of the tolerance that removing rounding noise may use in all."""
    stored_formulas_most_bytes: int = 2_000_000
    """Of all formulas of an artifact, estimated; those of a larger network are not written."""
    stored_formulas_bytes_an_edge: int = 300
    """For each output, of an edge that leads to it: in its texts and in its tree."""
    stored_formulas_bytes_a_number: int = 20
    """Of a spline's table."""
    formulas_deepest: int = 150
    """Nested brackets: Python's parser rejects 200, a C compiler may reject 256."""

    # rounding_noise
    rounding_noise_told: int = 12
    """Digits: a number with no more was set by a person; a fit gives 16 or 17."""
    rounding_noise_short: int = 6
    """Digits of a decimal to round to, as many as are shown: one within 1e-11 is no coincidence."""

    # function_checks
    function_checks_rows: int = 101
    """Numbers of its domain on which a function that a user registers is tried."""
    function_checks_step: float = 1e-5
    """Of the central differences that its derivative is compared with."""
    function_checks_slope: float = 1e-4
    """How far, relative to its size, a derivative may be from them."""
    function_checks_kinks: float = 0.05
    """Of the numbers may lie at a kink, where central differences mean nothing."""
    function_checks_same: float = 1e-9
    """How far values may be apart, relative, that are computed together and one by one."""

    # readable_digits
    readable_digits_tolerance: float = 1e-4
    """Of the standard deviation of y over the training range: what rounding the constants of a text may change."""
    readable_digits_share: float = 0.5
    """Of the tolerance that is used on the rows that are checked; between them the change may be larger."""
    readable_digits_parts: int = 8
    """Into which the rows are divided for the deviation of y, which is the least of theirs."""
    readable_digits_rounding: float = 1e-14
    """Of the size of y: a smaller deviation is that of rounding."""
    readable_digits_farthest: float = 100.0
    """Deviations from the median: a value further away may change in proportion to its distance."""
    readable_digits_rows: int = 1000
    """Of the training range, on which a rounded formula is compared with the exact one; its corners are extra."""
    readable_digits_searched_from: int = 8
    """Rows from which the largest error is searched, beside those on which a constant matters most."""
    readable_digits_most_starts: int = 24
    """Of those on which a constant matters most, and arguments of functions whose zeros are searched."""
    readable_digits_turning_pairs: int = 16
    """Of rows where such an argument has other signs: between each, a zero is searched."""
    readable_digits_further_rows: int = 8000
    """Of the training range, on which the text that has been found is compared too; fewer for a long formula."""
    readable_digits_trials: int = 16
    """Rows that are tried around each, for each size of a box."""
    readable_digits_boxes: tuple[float, ...] = (0.05, 0.01, 0.002, 4e-4, 8e-5)
    """Half the sides of the boxes in which they are drawn, relative to the range."""
    readable_digits_bisections: int = 25
    """To a row where the argument of a function is 0."""
    readable_digits_most_rounds: int = 40
    """Of adding digits; then all constants get all of them."""
    readable_digits_of_a_constant: float = 1e-6
    """Of the size of y: the tolerance where y does not vary."""
    readable_digits_most_values: int = 1_000_000
    """Steps × rows of a formula whose constants get digits by their sensitivity; in a larger one all get the same."""

    # sources
    sources_most_edges: int = 1000
    """Of a network whose formulas are built at all."""
    sources_most_steps: int = 5000
    """Operations of one function; compile time grows faster than linearly."""
    sources_longest_note: int = 400
    """Characters of a note in a source."""

    # codegen
    codegen_width: int = 100
    """Characters of a line; Fortran allows 132."""
    codegen_longest: int = 160
    """Characters of an expression without a variable of its own."""
    codegen_operands: int = 12
    """Of a statement: with the above, it stays within Fortran's 39 continuation lines."""

    # lowering
    lowering_largest_product: int = 4
    """Larger powers are products of squares."""

    # notations
    notations_digits: int = 6
    """Decimals of up to this many digits are written as they are in text and LaTeX."""
    notations_longest_product: int = 8
    """X^8 in C is seven products."""
    notations_longest_repeated: int = 40
    """Characters of a base that C repeats instead of calling pow."""

    # printing
    printing_operands: int = 4
    """Unfolded steps per operation of the limit, variables and constants included."""

    # symbolic
    symbolic_most_operations: int = 20_000
    """Of the unfolded formula; beyond, sympy's own algorithms take minutes."""

    # layering
    layering_max_edges: int = 1_000_000
    """Of all layers, zero edges included: arrays have an element for each."""

    # sympy_reading
    sympy_reading_max_parts: int = 10_000
    """Of an expression: as many as the longest text."""


LIMITS = FormulaLimits()
