"""The settings of a search: every number that decides what is tried, believed or kept, with its meaning.

`SEARCH.get()` gives those in force. `find_formulas(..., settings=...)` puts others in force for one search.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class SearchSettings:
    """Settings of `find_formulas`, named after the module that uses them."""

    # baselines
    baselines_inputs: int = 3
    """The inputs to use: those of which one function alone explains most."""
    baselines_points: int = 160
    baselines_steps: int = 20
    baselines_floor: float = 1e-9

    # decompose
    decompose_deepest: int = 6
    decompose_constant: float = 1e-13
    decompose_loose: float = 3.0
    decompose_least_loose: float = 1e-8
    decompose_worth_joining: float = 1e-2
    decompose_share: float = 0.5
    """Of the remaining time and fits: what one hypothesis may take."""
    decompose_least_weight: float = 0.5
    """Rows divided by less than this share of the large weights are left out, as their noise grows; and the largest
    share of rows to leave out."""
    decompose_most_left_out: float = 0.6
    decompose_shapes_first: int = 3
    """Up to this many inputs, shapes are tried before the least certain hypotheses, of which at most MOST_AFFINE."""
    decompose_most_affine: int = 6
    decompose_blind: float = 2e-2
    """Relative error of the best surrogate above which merges are found by trial instead of from the surrogate."""

    # find_formulas
    find_formulas_seconds: float = 60.0
    """Default limit of a search without any limit given."""
    find_formulas_most_rows: int = 1000
    """Rows that the search itself uses; the formulas are then fitted to all."""
    find_formulas_held_out: float = 0.2
    find_formulas_fewest_rows: int = 10
    find_formulas_largest_answer: float = 1e150
    """Largest output, and 1 over it the smallest: beyond, squared errors overflow or underflow a double."""
    find_formulas_most_finished: int = 14
    find_formulas_finishing: float = 0.2
    """Time reserved for postprocessing: a share of the limit, and at most so many seconds."""
    find_formulas_longest_finishing: float = 2.0
    find_formulas_for_units: float = 0.6
    """Share of the time and fits for laws that the units suggest."""
    find_formulas_promising: float = 0.9
    """A formula is postprocessed if its error is below this times that of all simpler ones."""

    # postprocess
    postprocess_nearly_all: float = 0.98
    postprocess_most_recognised: int = 20_000
    """Rows on which constants are compared with simple numbers."""
    postprocess_rounding: float = 4e-15
    """Relative to the size of the outputs: the rounding error where they vary little for their size."""
    postprocess_rows_for_each: int = 2
    """Rows per constant: with fewer, a formula may pass through all rows without meaning anything, and is dropped."""

    # preprocess
    preprocess_largest: float = 1e4
    """Largest root mean square of a column, and 1 over it the smallest: beyond, the column is scaled."""

    # results
    results_most_listed: int = 12
    results_better: float = 0.95
    """A more complex formula is listed if its error is below this times that of the simpler ones."""
    results_within: float = 1.1
    """If no formula settles the search, the best is the simplest whose error is within this factor of the least."""

    # beam
    beam_beam: int = 3
    beam_steps: int = 12
    beam_last_steps: int = 60
    beam_complexity_weight: float = 0.012
    beam_hopeless_share: float = 0.2

    # by_shape
    by_shape_starts: int = 3
    by_shape_more_starts: int = 6
    by_shape_wavy: float = 0.1
    """Error of a low-degree polynomial, relative to the outputs' spread, above which the law needs finer grids."""
    by_shape_promising: float = 2e-2
    by_shape_near_best: float = 1.3
    by_shape_learned: float = 0.1
    """With one input: a training error below which a finer grid is worth trying, whatever the held-out rows say."""
    by_shape_sure: float = 1e-4
    by_shape_converging: float = 1e-2
    by_shape_close: float = 2e-3
    by_shape_falling: float = 0.4
    by_shape_tried_after_level: int = 4
    by_shape_other_links: int = 2
    by_shape_as_good: float = 1.15
    """Among laws within this factor of the least held-out error, the information criterion decides."""
    by_shape_choice: float = 2.0
    """Penalty in nats per unit of complexity."""

    # candidates
    candidates_near_best: float = 1.3
    """In powers of ten: offers that are worse than the best by more than this are dropped."""

    # overfit_test
    overfit_test_fewest: int = 3
    """Numbers of distinct values of an input that could be memorised."""
    overfit_test_few: int = 12

    # problem
    problem_joint_steps: int = 60

    # residual_test
    residual_test_least: float = 1e-6
    """Relative to the outputs' spread: a smaller error is rounding or approximation; a larger one explains little."""
    residual_test_most: float = 0.7
    residual_test_unlikely: float = 3.0
    """Standard errors by which the F statistic of the polynomial may exceed 1, its value for noise."""
    residual_test_unlike: float = 3.5
    """Standard errors up to which neighbours may be correlated."""

    # training
    training_exact: float = 1e-9
    """Relative to the outputs' spread: the error of a law that is exact up to rounding."""
    training_start_rows: int = 240
    training_rows_for_each: int = 5
    training_start_steps: int = 8
    training_best_steps: int = 30
    training_fine_steps: int = 40
    training_smooth: float = 1e-8
    training_fine_smooth: float = 1e-10
    training_random: float = 0.15
    training_crowded: float = 0.15
    """Relative to the range: the distance of the quantiles from an even grid above which the grid follows them."""
    training_trusted: float = 0.97
    training_hopeless_error_ratio: float = 10.0

    # bases
    bases_least_ratio: float = 1.5
    """Of an input's largest to its smallest value: below it, the logarithm is nearly a straight line."""

    # interactions
    interactions_pairs: int = 120
    """Pairs of rows whose coordinates are exchanged."""
    interactions_weak: float = 30.0
    """Times the surrogate's error: a larger difference is significant."""
    interactions_rounding: float = 1e-9
    interactions_interior: float = 0.9
    """Of an input's range."""
    interactions_nodes: int = 12
    """Values of one input along a line."""
    interactions_lines: int = 50
    """Rows through which lines are taken."""

    # least_squares
    least_squares_ridge: float = 1e-13
    """Relative to a column's square: allows equal columns; the refinement removes its bias."""
    least_squares_highest_leverage: float = 0.98
    """Above it, a row determines its own fit, and its leave-one-out error would be 0/0."""
    least_squares_refinements: int = 2

    # link_functions
    link_functions_nearly_linear: float = 0.9995
    """A link that is more correlated with y than this adds nothing."""
    link_functions_far_from_zero: float = 1e-3
    """Least |y| relative to the median: below it, 1/y is dominated by the rows near 0."""
    link_functions_far_on_both_sides: float = 0.05
    """The same where y changes sign: outputs that pass through 0 come closer than that."""
    link_functions_largest_exponent: float = 8.0
    link_functions_steepest_tangent: float = 1.5
    link_functions_clip: float = 1 - 1e-12
    """Of the domain of atanh, whose ends are infinite."""

    # surrogates
    surrogates_exact: float = 1e-11
    """A relative error below this is rounding."""
    surrogates_most_terms: int = 220
    surrogates_rows_per_term: int = 3
    surrogates_least_slope: float = 0.02
    """Relative to a link's median slope: smaller slopes are raised to it when errors are converted."""
    surrogates_worth_a_flip: float = 0.8
    """An input is switched to or from its logarithm if the error falls below this share."""
    surrogates_patience: int = 2
    """Index sets without improvement before early stopping, but not."""
    surrogates_lost: float = 0.1
    """Above this error: a wave of several periods gives no gain until there are enough terms for all."""

    # affine
    affine_largest_exponent: float = 20.0
    affine_rounding: float = 1e-9
    affine_alike: float = 1e-5
    """1 - correlation of a shape with a function."""
    affine_alike_in_doubt: float = 10.0
    """The same, in units of the square of the surrogate's error."""
    affine_clearly: float = 2.0
    """Factor by which a function later in the table must be closer to be preferred."""
    affine_none_the_worse: float = 1.1
    """Times the error."""
    affine_something: float = 1e-3
    """Relative to link(y): a smaller P counts as 0."""

    # dimensions
    dimensions_most_scales: int = 4

    # factors
    factors_largest_power: float = 6.5
    factors_least_power: float = 0.1
    factors_snap: float = 4.0
    """Standard errors within which a power is rounded."""
    factors_snap_at_least: float = 1.5e-2
    """The least such distance, if the form still holds."""
    factors_snap_exactly: float = 1e-3
    factors_exact_power_law: float = 1e-9
    factors_loud: float = 0.3
    """Relative error of a power law above which it is rejected."""
    factors_first_look: int = 80
    """Terms."""
    factors_rounding: float = 1e-11
    """Relative error without any structure left to test."""

    # form_test
    form_test_as_good: float = 1.3
    """Times the full surrogate's error: a form up to this error is not refuted."""
    form_test_trusted: float = 1e-3
    """Relative error above which noise may hide a difference, and _AS_GOOD_IN_NOISE applies instead."""
    form_test_as_good_in_noise: float = 1.05
    form_test_much_better: float = 0.2
    """Times the full surrogate's error: below it, residuals may have some structure, as smooth errors do."""
    form_test_more_structure: float = 5.0
    form_test_worthless: float = 0.15
    """Relative error above which a fit is too inaccurate to test a form."""
    form_test_negligible: float = 1e-6
    """Relative error up to which a form is always accepted."""
    form_test_powers_alone: int = 5
    """Powers of an input that a form leaves out, in the test whether it is missing."""

    # input_merges
    input_merges_loose: float = 0.3
    """Largest angle between the gradients of y and of z; above it, z is refuted."""
    input_merges_tight: float = 0.03
    """That angle for an exact surrogate, plus."""
    input_merges_per_error: float = 6.0
    """Times the surrogate's error, as its gradient is less accurate than its value."""
    input_merges_felt: float = 1e-3
    """Relative to the largest gradient: an input with a smaller one is not merged."""
    input_merges_refuted: int = 3
    """Refuted guesses of a kind, after which the rest are not tried."""
    input_merges_powers: int = 5
    """Of each input in p(x_i) + q(x_j)."""
    input_merges_total: int = 3
    """Degree of a z that is not such a sum."""
    input_merges_blind: float = 0.1
    """Relative error of a surrogate above which its gradient is useless."""
    input_merges_seeing: float = 0.3
    """Times that error: a merge that is tried without a gradient must be below it."""
    input_merges_most_blind: int = 4
    """Inputs for which merges are tried without a gradient: there are 24 of them."""
    input_merges_steps: int = 4
    """Of Gauss-Newton."""
    input_merges_hopeless_error_ratio: float = 100.0
    """Times the full surrogate's error."""
    input_merges_rounding: float = 1e-9
    input_merges_snap: float = 4.0
    """Standard errors within which beta is rounded."""
    input_merges_snap_at_least: float = 1.5e-2
    """The least such distance, if the fit is no worse for it."""
    input_merges_none_the_worse: float = 1.1
    input_merges_smallest_power: float = 0.1
    input_merges_largest_power: float = 8.0

    # scaling
    scaling_loose: float = 0.1
    """Largest residual of a null vector, relative to y; above it, there is no such symmetry."""
    scaling_tight: float = 1e-3
    """That residual for an exact surrogate, plus."""
    scaling_per_error: float = 6.0
    """Times the surrogate's error, as its gradient is less accurate than its value."""
    scaling_most: int = 2
    """Ways to write one symmetry."""
    scaling_largest_denominator: int = 4
    scaling_largest_power: int = 8
    scaling_off: float = 0.04
    """Largest distance of a power from the simple number to which it is rounded."""

    # separation
    separation_links: int = 3
    separation_worth_trying: float = 3.0
    """Times the best surrogate's error: links with a larger one are not tried."""
    separation_as_good_as_any: float = 10.0
    """Times the best link's error."""
    separation_rounding: float = 1e-9
    separation_sweeps: int = 3
    """Of alternating least squares for each number of terms, followed by."""
    separation_steps: int = 2
    """Of Gauss-Newton."""
    separation_least_terms: int = 4
    """Of a factor."""
    separation_something: float = 1e-4
    """Least variation of a part, relative to y."""

    # single_index
    single_index_most_inputs: int = 5
    single_index_smooth: float = 0.02
    """Largest `roughness` of a curve."""
    single_index_near_best: float = 2.0
    single_index_much_better: float = 0.3
    """A merge is kept if its error is below this times the error with all inputs."""

    # enumeration
    enumeration_most_inputs: int = 4


_DEFAULT = SearchSettings()
SEARCH = ContextVar("SEARCH", default=_DEFAULT)
