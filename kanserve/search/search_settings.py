"""The settings of a search: the numbers that decide what is tried, believed or kept, with its meaning.

`SEARCH.get()` gives those in force. `find_formulas(..., settings=...)` puts others in force for one search.
"Prototype's value": that of a prototype which found all of 30 Feynman equations; other sources are not recorded. Steps
are of Levenberg-Marquardt. Outputs spread by their deviation; an error is relative to their root mean square.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field

from kanserve.search.closed_form_settings import ClosedFormSettings
from kanserve.search.driver_settings import DriverSettings
from kanserve.search.evidence_settings import EvidenceSettings
from kanserve.search.screening_settings import ScreeningSettings


@dataclass(frozen=True)
class SearchSettings:
    """Settings of `find_formulas`, named after the module that uses them.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> from kanserve.search import SearchSettings
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> shallow = SearchSettings(decompose_max_depth=2)
    >>> kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=100, settings=shallow).best.formula.text
    '3*x1/x2'
    """

    closed_forms: ClosedFormSettings = field(default_factory=ClosedFormSettings)
    """Those of laws that linear algebra finds at once."""
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    """Those of the last test, on all rows."""
    screening: ScreeningSettings = field(default_factory=ScreeningSettings)
    """Those of which of many inputs are looked at."""
    driver: DriverSettings = field(default_factory=DriverSettings)
    """Those of constraints and templates."""

    baselines_most_inputs: int = 3
    """Number of one-input formulas among the baselines: of the inputs that explain most on their own."""
    baselines_rows: int = 160
    """Training rows, at most, on which the functions of one input are compared."""
    baselines_refit_steps: int = 20
    """Levenberg-Marquardt steps of the refit of a function of one input or of a power law."""
    baselines_error_floor: float = 1e-9
    """Error, relative to the outputs' spread, below which functions of one input count as equally good."""

    decompose_max_depth: int = 6
    """Depth of a part from which it is not decomposed further; the whole law has depth 0."""
    decompose_constant_range: float = 1e-13
    """Range of the outputs, relative to their largest size, up to which they count as constant."""
    decompose_part_tolerance: float = 3.0
    """Error of a part's law that counts as exact, relative to the error of the part's values. Prototype's value."""
    decompose_least_part_tolerance: float = 1e-8
    """Least such error, relative to the spread of the part's values. Prototype's value."""
    decompose_largest_part_error: float = 1e-2
    """Largest error of a part that is joined, relative to its spread, unless ten of its tolerances are more."""
    decompose_budget_share: float = 0.5
    """Largest share of the remaining time and fits that one hypothesis may take."""
    decompose_least_weight: float = 0.5
    """Least factor by which rows are divided, relative to its 0.9 quantile: division by less amplifies their noise."""
    decompose_most_left_out: float = 0.6
    """Largest share of the rows that are left out because their factor is smaller."""
    decompose_shapes_first_inputs: int = 3
    """Most inputs with which shapes are tried before affine forms, the least certain hypotheses."""
    decompose_most_affine: int = 6
    """Number of affine forms to try, at most."""
    decompose_merge_by_trial_error: float = 2e-2
    """Relative error of the best surrogate above which merges are found by trial if it suggests none."""

    find_formulas_default_seconds: float = 60.0
    """Time limit in seconds of a search for which no limit is given."""
    find_formulas_most_rows: int = 1000
    """Training rows that the search uses, at most; the formulas are then fitted to all training rows."""
    find_formulas_held_out_share: float = 0.2
    """Share of the rows that is held out for validation."""
    find_formulas_fewest_rows: int = 5
    """Fewest rows with which a search starts; fewer are a DataError."""
    find_formulas_largest_output: float = 1e150
    """Largest output, and 1 over it the smallest: beyond, squared errors overflow or underflow a double."""
    find_formulas_most_postprocessed: int = 14
    """Number of formulas to postprocess, at most: those of the Pareto front with the least errors."""
    find_formulas_postprocess_share: float = 0.2
    """Share of the time limit that is reserved for postprocessing."""
    find_formulas_postprocess_seconds: float = 2.0
    """Most seconds that are reserved for postprocessing."""
    find_formulas_units_share: float = 0.6
    """Share of the time and fits for laws that the units suggest."""
    find_formulas_pareto_error_ratio: float = 0.9
    """A formula is postprocessed if its error is below this times that of all simpler ones."""

    postprocess_finite_share: float = 0.98
    """Share of finite rows above which the others are left out: rounding alone may leave a function's domain."""
    postprocess_recognition_rows: int = 20_000
    """Rows, at most, on which constants are compared with simple numbers."""
    postprocess_rounding: float = 4e-15
    """Rounding error, relative to the largest output, of an exact formula whose outputs vary little."""
    postprocess_rows_per_constant: int = 2
    """Fewest rows per constant: with fewer, a formula may pass through all rows by chance, and is dropped."""

    preprocess_largest_scale: float = 1e4
    """Largest root mean square of a column, and 1 over it the smallest: beyond, the column is scaled."""

    results_most_listed: int = 12
    """Number of formulas in the Pareto front, at most: those that improve least on the one before are dropped."""
    results_pareto_error_ratio: float = 0.95
    """A more complex formula is listed if its held-out error is below this times that of the simpler ones."""
    results_best_error_ratio: float = 1.1
    """If no formula settles the search, the best is the simplest with an error up to this times the least."""

    beam_width: int = 3
    """States kept after each step, and laws kept of noisy rows. Prototype's value; greedy search lost 1 law of 30."""
    beam_refit_steps: int = 12
    """Steps of the joint refit after each name. Prototype's value; a single step lost two laws of 30."""
    beam_last_steps: int = 60
    """Steps of the last refit, when every curve has a name."""
    beam_complexity_weight: float = 0.012
    """Penalty for a unit of complexity, in powers of ten of the error. Prototype's value."""
    beam_hopeless_error: float = 0.2
    """The beam search stops if the errors of all unfinished states, relative to the spread, are above this."""

    by_shape_starts: int = 3
    """Random starts of a shape without a curve of a node. On one seed, the prototype needed 1 to 3."""
    by_shape_curve_starts: int = 6
    """Random starts of a shape with a curve of a node, which has local minima."""
    by_shape_wavy_error: float = 0.1
    """Error of a low-degree polynomial, relative to the outputs' spread, above which the law needs finer grids."""
    by_shape_promising_error: float = 2e-2
    """Held-out error on the coarse grid, relative to the spread, up to which a shape gets a finer grid."""
    by_shape_promising_ratio: float = 1.3
    """The same limit relative to the best surrogate's error; the larger limit counts."""
    by_shape_learned_error: float = 0.1
    """With one input, a training error, relative to the spread, below which a finer grid is tried in any case."""
    by_shape_certain_error: float = 1e-4
    """Held-out error, relative to the spread, below which a shape is named at once. Prototype's value."""
    by_shape_converging_error: float = 1e-2
    """Held-out error, relative to the spread, below which a converging shape is named. Prototype's value."""
    by_shape_close_error: float = 2e-3
    """Held-out error, relative to the spread, below which a shape need not converge. Prototype's value."""
    by_shape_converging_ratio: float = 0.4
    """A shape converges if its error on the fine grid is below this times the coarse one's. Prototype's value."""
    by_shape_tried_after_level: int = 4
    """Number of uncertain shapes to name after each level, the simplest first. Prototype's value."""
    by_shape_other_links: int = 2
    """Links to try besides the identity; with one input, all are tried. Prototype's value."""
    by_shape_as_good_ratio: float = 1.15
    """Among laws within this factor of the least held-out error, the information criterion decides."""
    by_shape_complexity_penalty: float = 2.0
    """Penalty for a unit of complexity in the information criterion, in nats."""

    candidates_rank_margin: float = 1.3
    """Offers whose rank, in powers of ten of the error, is worse than the best by more than this are dropped."""

    overfit_test_fewest_values: int = 3
    """Fewest distinct values of an input that a formula could memorise; with one or two, nothing can be tested."""
    overfit_test_most_values: int = 12
    """Most distinct values of an input that a formula could memorise."""

    problem_refit_steps: int = 60
    """Steps of the joint refit of a law of named functions."""

    residual_test_least_error: float = 1e-6
    """Least error that may be noise, relative to the outputs' spread: less is rounding or approximation."""
    residual_test_largest_error: float = 0.7
    """Largest error that may be noise, relative to the outputs' spread: more explains too little."""
    residual_test_lack_of_fit_limit: float = 3.0
    """Standard errors by which the F statistic of a polynomial may exceed 1, its value for noise."""
    residual_test_correlation_limit: float = 3.5
    """Largest correlation of neighbours' residuals for noise, in standard errors, 1/sqrt(rows)."""

    training_exact_error: float = 1e-9
    """Error, relative to the outputs' spread, of a law that is exact up to rounding. Prototype's value."""
    training_start_rows: int = 240
    """Rows for random starts, at most, unless the number of coefficients requires more."""
    training_rows_per_coefficient: int = 5
    """Rows per spline coefficient for random starts."""
    training_start_steps: int = 8
    """Steps of a random start, before and again after its grids move."""
    training_best_steps: int = 30
    """Steps of the best start on all training rows, twice, each after its grids move."""
    training_fine_steps: int = 40
    """Steps on the fine grid. Prototype's value."""
    training_smoothing: float = 1e-8
    """Weight of the penalty on squared second differences of coefficients, on coarse grids."""
    training_fine_smoothing: float = 1e-10
    """The same on fine grids."""
    training_start_noise: float = 0.15
    """Standard deviation of the noise in a random start's coefficients. Prototype's value."""
    training_crowded_distance: float = 0.15
    """Distance of quantiles from an even grid, relative to the range, above which the knots move halfway there."""
    training_trusted_share: float = 0.97
    """Share of the held-out rows that count; the worst few measure how splines extrapolate."""
    training_hopeless_error_ratio: float = 10.0
    """Error of the best start, relative to a promising error, above which a shape is given up."""

    bases_least_logarithm_ratio: float = 1.5
    """Ratio of an input's largest to its smallest size below which its logarithm is nearly a straight line."""

    interactions_row_pairs: int = 120
    """Pairs of rows, at most, whose coordinates are exchanged."""
    interactions_weak_ratio: float = 30.0
    """Difference, relative to the surrogate's error, up to which that error may be its cause."""
    interactions_rounding: float = 1e-9
    """Lower bound of that error, relative to the outputs' root mean square."""
    interactions_interior_share: float = 0.9
    """Share of each input's range, around its middle, where gradients are used."""
    interactions_line_points: int = 12
    """Values of one input along a line, at Chebyshev nodes."""
    interactions_lines: int = 50
    """Rows, at most, through which lines are taken."""

    least_squares_ridge: float = 1e-13
    """Ridge per column, relative to the column's square: allows equal columns; the refinement removes its bias."""
    least_squares_highest_leverage: float = 0.98
    """Upper bound of leverages: above it, a row determines its own fit, and its leave-one-out error nears 0/0."""
    least_squares_refinements: int = 2
    """Steps of iterative refinement, which restores the digits that the normal equations lose."""

    link_functions_linear_correlation: float = 0.9995
    """Correlation with y from which a link is nearly linear and adds nothing. Prototype's value."""
    link_functions_least_output: float = 1e-3
    """Least |y| for 1/y, relative to the median of |y|: smaller outputs would dominate the fit."""
    link_functions_least_signed_output: float = 0.05
    """The same where y changes sign: outputs that pass through 0 come closer than that."""
    link_functions_largest_exponent: float = 8.0
    """Largest |y| for the link exp(y). Prototype's value."""
    link_functions_largest_angle: float = 1.5
    """Largest |y| for the link tan(y), in radians. Prototype's value."""
    link_functions_atanh_limit: float = 1 - 1e-12
    """Largest |y| for the link atanh(y), which is infinite at 1."""

    surrogates_exact_error: float = 1e-11
    """Error, relative to the outputs' root mean square, below which a fit is exact up to rounding."""
    surrogates_most_terms: int = 220
    """Terms of a surrogate, at most."""
    surrogates_rows_per_term: int = 3
    """Fewest rows per term of a surrogate."""
    surrogates_least_slope: float = 0.02
    """Least slope of a link that converts errors to those of y, relative to its median slope. Prototype's value."""
    surrogates_logarithm_error_ratio: float = 0.8
    """An input is switched to or from its logarithm if the error falls below this times the error before."""
    surrogates_patience: int = 2
    """Index sets without improvement before early stopping."""
    surrogates_early_stopping_error: float = 0.1
    """Relative error from which there is no early stopping: many periods need many terms before any gain."""

    affine_largest_exponent: float = 20.0
    """Largest exponent with which exp(x) and exp(-x) of an input are tried."""
    affine_rounding: float = 1e-9
    """Relative size of rounding: a function that varies less is left out, and a smaller error counts as this."""
    affine_shape_distance: float = 1e-5
    """Largest distance of a function from the shape along an input, as 1 - correlation."""
    affine_shape_distance_per_error: float = 10.0
    """The same limit relative to the square of the surrogate's error; the larger limit counts."""
    affine_preference_ratio: float = 2.0
    """Factor by which a function later in the table must be closer to be preferred."""
    affine_no_worse_ratio: float = 1.1
    """An input is left out of P or Q if the error stays below this times the error before."""
    affine_error_of_parts: float = 3.0
    """Error of P and Q, relative to that which the form's error means if it is the same in all of the box."""
    affine_negligible_constant: float = 1e-3
    """Root mean square, relative to link(y), below which a constant P counts as 0."""

    dimensions_most_scales: int = 4
    """Number of products of powers in the output's unit to try, at most, the simplest first."""

    factors_largest_power: float = 6.5
    """Upper bound of |p| for a power x^p that is a factor."""
    factors_least_power: float = 0.1
    """Lower bound of |p| for a power x^p that is a factor."""
    factors_snap_standard_errors: float = 4.0
    """Standard errors within which a power is rounded to a simple fraction."""
    factors_snap_distance: float = 1.5e-2
    """Distance within which a power of one input is rounded in any case, if the form still holds."""
    factors_power_law_snap_distance: float = 1e-3
    """Distance within which the powers of a power law of all inputs are rounded in any case."""
    factors_exact_error: float = 1e-9
    """Relative error below which a power law is exact and is not tested further."""
    factors_largest_error: float = 0.3
    """Relative error above which a power law, or the estimate of one power, is rejected."""
    factors_refinement_terms: int = 80
    """Terms, at most, of the fits by which a power is refined."""
    factors_rounding: float = 1e-11
    """Relative error below which there is no structure left to test."""

    form_test_as_good_ratio: float = 1.3
    """Largest error of a form, relative to the full surrogate's; a larger one refutes it. Prototype's value."""
    form_test_noise_error: float = 1e-3
    """Relative error above which noise may hide a difference, so `form_test_noise_ratio` applies. Prototype's value."""
    form_test_noise_ratio: float = 1.05
    """Largest error of a form, relative to the full surrogate's, where noise may hide a difference."""
    form_test_much_better_ratio: float = 0.2
    """Error relative to the full surrogate's, below which residuals may be structured, as smooth errors are."""
    form_test_structure_limit: float = 5.0
    """Lack of fit allowed below that error, where 1 is the 4-sigma limit of chance."""
    form_test_largest_error: float = 0.15
    """Relative error above which a fit is too inaccurate to test a form."""
    form_test_negligible_error: float = 1e-6
    """Relative error up to which a form is always accepted."""
    form_test_degree: int = 5
    """Degree of the polynomial in an input that a form leaves out, in the test whether it is missing."""

    input_merges_largest_angle: float = 0.3
    """Largest angle between the gradients of y and z (`_angle`) with which z is tried. Prototype's value."""
    input_merges_exact_angle: float = 0.03
    """That angle for an exact surrogate. Prototype's value."""
    input_merges_angle_per_error: float = 6.0
    """Added to it for each unit of the surrogate's relative error. Prototype's value."""
    input_merges_least_gradient: float = 1e-3
    """Least gradient by an input that is merged, relative to the largest; inputs in standard deviations."""
    input_merges_most_refuted: int = 3
    """Refuted guesses of a kind, after which the rest are not tried."""
    input_merges_sum_degree: int = 5
    """Degree of p and q in z = p(x_i) + q(x_j)."""
    input_merges_total_degree: int = 3
    """Total degree of another z of two inputs; one less for three inputs."""
    input_merges_unguided_error: float = 0.1
    """Relative error of a surrogate above which its gradient is useless, and merges are tried without it."""
    input_merges_unguided_ratio: float = 0.3
    """Largest error of a merge that is tried without a gradient, relative to the error before."""
    input_merges_most_unguided_inputs: int = 4
    """Most inputs for which merges are tried without a gradient: 4 have up to 24 such merges."""
    input_merges_gauss_newton_steps: int = 4
    """Gauss-Newton steps of the coefficients of z."""
    input_merges_hopeless_error_ratio: float = 100.0
    """Error, relative to the full surrogate's, above which z is not refined."""
    input_merges_rounding: float = 1e-9
    """Relative error below which z is not refined; also the lower bound of the surrogate's error there."""
    input_merges_snap_standard_errors: float = 4.0
    """Standard errors within which beta is rounded to a simple fraction."""
    input_merges_snap_distance: float = 1.5e-2
    """Distance within which beta is rounded in any case, if the fit is no worse for it."""
    input_merges_no_worse_ratio: float = 1.1
    """A rounded beta is kept if the error stays below this times the error before."""
    input_merges_least_power: float = 0.1
    """Lower bound of |beta| in z = x_i·x_j^beta."""
    input_merges_largest_power: float = 8.0
    """Upper bound of |beta| in z = x_i·x_j^beta."""

    scaling_largest_residual: float = 0.1
    """Largest residual of a null vector, relative to y; above it, there is no such symmetry."""
    scaling_exact_residual: float = 1e-3
    """That residual for an exact surrogate."""
    scaling_residual_per_error: float = 6.0
    """Added to it for each unit of the surrogate's error, whose gradient is less accurate than its value."""
    scaling_most_forms: int = 2
    """Number of ways to write one symmetry that are kept, at most, those of least error."""
    scaling_largest_denominator: int = 4
    """Largest denominator of the fractions to which powers are rounded."""
    scaling_largest_power: int = 8
    """Largest power, in size, of a symmetry."""
    scaling_rounding_distance: float = 0.04
    """Largest distance of a power from its fraction; also the smallest pivot when null vectors are solved."""

    separation_most_links: int = 3
    """Links to try, at most, besides the identity."""
    separation_link_error_ratio: float = 3.0
    """Links whose surrogate's error reaches this times the least are not tried."""
    separation_sum_error_ratio: float = 10.0
    """Largest error of a sum, relative to the error of the best link's surrogate."""
    separation_rounding: float = 1e-9
    """Lower bound of the least error in these comparisons, relative to the outputs' root mean square."""
    separation_sweeps: int = 3
    """Sweeps of alternating least squares for each number of terms."""
    separation_gauss_newton_steps: int = 2
    """Gauss-Newton steps after these sweeps."""
    separation_least_terms: int = 4
    """Fewest terms per factor."""
    separation_least_variation: float = 1e-4
    """Least variation of a part: in a sum relative to y, in a product to the part's mean size."""
    single_index_most_inputs: int = 5
    """Most inputs with which functions of one variable are tried."""
    single_index_largest_roughness: float = 0.02
    """Largest `roughness` of a curve, where noise has 1."""
    single_index_roughness_ratio: float = 2.0
    """Largest roughness of a further variable, relative to the smoothest."""
    single_index_merge_error_ratio: float = 0.3
    """A merge is kept if its surrogate's error is below this times the error with all inputs."""
    enumeration_most_inputs: int = 4
    """Most inputs for which all shapes are listed; with more, only sums and products of all, and curves of these."""


_DEFAULT = SearchSettings()
SEARCH = ContextVar("SEARCH", default=_DEFAULT)
