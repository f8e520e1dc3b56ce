"""The settings of training that are not arguments of `fit`: tolerances, schedules and memory, with their meaning.

`TRAINING` has them; they are the same for all calls.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Tolerances, schedules and limits, named after the module that uses them."""

    # checkpoints
    checkpoints_share: float = 0.05
    """Of a fit's time that writing may take."""
    checkpoints_hashed_at_once: int = 2**16
    """Rows."""

    # creation
    creation_spread: float = 0.1
    """Standard deviation of random weights, times the root of a layer's inputs (TRAINING: 39 of 40 starts)."""

    # fit_progress
    fit_progress_bar: int = 20
    """Characters."""
    fit_progress_rewritten_every: float = 0.1
    """Seconds between lines about one stage: in a terminal, and in a log."""
    fit_progress_added_every: float = 5.0
    """Seconds between lines about one stage where they are not rewritten."""

    # grids
    grids_pad: float = 0.02
    """Of the width, added on either side of hidden ranges; the first layer's grid is exactly the data's range."""
    grids_narrow: float = 1e-9
    """A range narrower than this, relative to its values, is a constant."""
    grids_wide: float = 1e-6
    """Half-width of a constant's range, at least, relative to its value."""
    grids_points: int = 4
    """Of the refit, per coefficient."""
    grids_ridge: float = 1e-22
    """Of the refit: just enough to solve it where a basis function of an uneven grid has no point."""

    # losses
    losses_huber: float = 1.345
    """Huber's threshold in robust standard deviations: 95 % efficient on normal noise (Huber, Robust Statistics)."""
    losses_huber_least: float = 1e-4
    """Of the first threshold: the last steps take none below, however small the residuals are."""
    losses_quantile_rounding: float = 1e-2
    """Half-width, in robust standard deviations, of the parabola in place of the kink of the quantile loss."""
    losses_middle_half: float = 1.349
    """Width of the middle half of a normal distribution, in standard deviations."""
    losses_least_curvature: float = 1e-4
    """Of cross-entropy, Poisson and Tweedie at a score: less makes steps too long."""

    # fit_warnings
    warnings_rows: int = 20_000
    """Enough to judge a fit and its data by."""
    warnings_fewest_rows: int = 20
    """With fewer rows tails are not judged, nor standard errors computed."""
    warnings_fewest_for_line: int = 5
    """Held-out rows with fewer of which a network is not compared with a line."""
    warnings_good: float = 1e-3
    """Of the error of a constant: with less a fit is good, whatever a line does."""
    warnings_worse: float = 1.05
    """Factor to a line's error from which on a network is worse, however certain the difference is."""
    warnings_tail: float = 10.0
    """Times the range of the middle nine tenths: 2 for a normal distribution, 300 for Cauchy's, of 1000 rows each."""
    warnings_certain: float = 2.0
    """Standard errors by which the network must be better than a constant, and no worse than a line."""
    warnings_rows_per_input: int = 2
    """With fewer a line is no measure."""

    # input_screening
    screening_samples: int = 1000
    """And four per parameter: of so many, those that differ are counted."""
    screening_inputs: int = 20
    """With fewer inputs none is left out."""
    screening_many_rows: int = 10_000
    """From here on inputs that tell nothing are left out of any regression whose rows are few enough to be copied
    (`batches_kept`): so many rows show it."""
    screening_groups: int = 8
    """Of an input's values, of equal size."""
    screening_certain: float = 4.0
    """Standard deviations by which an input must tell more than chance does."""
    screening_pair_certain: float = 1.0
    """Standard deviations by which a product of two inputs must tell more than the largest of all does by chance."""
    screening_polynomial_rows: int = 5000
    """Enough to compare polynomials of all inputs with those of some."""
    screening_polynomial_ridges: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Of the polynomials' coefficients, of which the best counts."""
    screening_polynomial_gain: float = 0.1
    """Of the squared error with the inputs kept: if those of all have so much less, all are kept."""
    screening_polynomial_certain: float = 2.0
    """Standard errors by which they must be better."""
    screening_rounds: int = 4
    """Of inputs that tell something about what those before have left, at most."""
    screening_reach: float = 4.0
    """Median deviations from the median up to which answers count."""
    screening_rows: int = 20_000
    """Enough to choose inputs by."""
    screening_steps: int = 10
    """Of the additive fit to the inputs kept."""
    screening_ridge: float = 1e-3
    """Of the same fit."""
    screening_least: int = 4
    """Inputs that are kept, whatever they tell."""

    # normalising
    normalising_at_once: int = 2**16
    """Rows."""
    normalising_constant: float = 1e-12
    """A smaller spread, relative to the largest absolute value, is rounding."""

    # first_knots
    first_knots_rows: int = 20_000
    """Enough to place knots by."""
    first_knots_crowded: float = 4.0
    """Times the range of the middle nine tenths from which on an input has uneven knots: 1.1 for a uniform
    distribution, 2 to 2.5 for a normal one, 2.4 to 3.5 for an exponential one, of 1000 to 20,000 rows."""
    first_knots_share: float = 0.9
    """Of the quantiles in the knots; the rest is an even grid, which keeps them apart."""

    # jumps
    jumps_rows: int = 50_000
    """Enough to look for jumps."""
    jumps_least_window: int = 50
    """Rows on either side of a place; the windows double."""
    jumps_most_window: float = 0.05
    """Share of the rows."""
    jumps_certain: float = 8.0
    """Standard errors by which the means on both sides differ: 4 to 5 is the largest of all places without a jump."""
    jumps_sharp: float = 0.6
    """Of the difference in a window that is left in a quarter of it: 1 at a jump, a quarter of a smooth curve."""
    jumps_of_an_input: int = 5
    """Places that are looked at, at most."""
    jumps_rounding: float = 1e-12
    """Of the sum of squares: less is rounding."""
    jumps_share_beside: int = 4000
    """One of so many rows on either side of a jump is between its knots."""
    jumps_least_width: float = 1e-6
    """Of the range of an input, between the outermost of the knots at a jump."""
    jumps_most_width: float = 1e-3

    # fitting
    fitting_fewest_rows: int = 10
    """With fewer, no rows are held out."""
    fitting_fewest_groups: int = 100
    """Different rows from which on equal ones are held out together: with fewer, all kinds of rows are in training."""
    fitting_few_rows_smooth: float = 1e-2
    """Smoothing where no rows are held out to choose it."""
    fitting_classes_smooth: float = 5e-3
    """Of a classifier's splines: better than 0, and than a choice by 20 held-out rows."""
    fitting_classes_parameters: int = 400
    """Up to so many a classifier is fitted by Levenberg-Marquardt: narrow ones have poor minima, where LBFGS ends."""
    fitting_starts: int = 8
    """Of Levenberg-Marquardt for a regression."""
    fitting_class_starts: int = 24
    """Of Levenberg-Marquardt for a classifier: about one in five of a narrow one finds a good minimum."""
    fitting_descent_starts: int = 4
    """Of LBFGS and Adam for a network with a narrow layer."""
    fitting_narrow: int = 3
    """Nodes of a hidden layer up to which it is narrow."""
    fitting_descent_start_steps: int = 20
    """Of each start of LBFGS."""
    fitting_adam_start_factor: int = 5
    """Times as many steps of each start of Adam."""
    fitting_hidden: float = 0.5
    """Half-width of hidden grids: about the range of random splines' sums; if wider, splines stay straight."""
    fitting_many_rows: int = 50_000
    """From here on Adam: LBFGS would take all rows at every step."""
    fitting_settled_rows: int = 20_000
    """Last steps of LBFGS and Adam, held-out rows included: up to so many rows."""
    fitting_settle_steps: int = 20
    """Of the last descent."""
    fitting_most_rows: int = 200_000
    """Of a least-squares fit, whose few parameters gain nothing from more."""

    # blas_threads
    blas_threads_worth_sharing: float = 5e9
    """Multiply-adds of one product: about half a second on one core."""
    blas_threads_worth_a_thread: float = 1e8
    """Multiply-adds of a pass of the compiled kernels: a few hundredths of a second."""

    # compiled_descent
    compiled_descent_most_rows: int = 1024
    """Of a block whose windows are in memory at once; fewer if the windows are longer."""
    compiled_descent_window_memory: int = 4_000_000
    """Numbers of all windows of a block."""
    compiled_descent_least_rows: int = 64
    """Of a block, however long its windows are."""
    compiled_descent_memory: int = 30_000_000
    """Numbers: up to here the first layer's basis values are kept."""

    # damped_solve
    damped_solve_many_parameters: float = 3
    """Per residual: from here on a system of the residuals is faster than one of the parameters."""
    damped_solve_small: int = 150
    """Up to this size NumPy is as fast as SciPy, which is slow to load."""

    # jacobian
    jacobian_rows: int = 4096
    """At most in one block."""
    jacobian_memory: float = 3e7
    """Numbers that may be kept between the loss and the Jacobian."""

    # levenberg_marquardt
    levenberg_marquardt_patience: int = 4
    levenberg_marquardt_small_gain: float = 1e-3
    """Relative: a step that gains less counts against the patience."""
    levenberg_marquardt_floor: float = 1e-2
    """Least element of the damped diagonal, relative to its largest."""
    levenberg_marquardt_most_damping: float = 1e12
    """Above it no step gains: the descent ends."""
    levenberg_marquardt_least_damping: float = 1e-15
    """Damping is not lowered further."""

    # monotone_descent
    monotone_solves: int = 4
    """Of one step: between them the steps between coefficients that became negative are set to 0."""

    # parameter_layout
    parameter_layout_padding: int = 8
    """Doubles: rows of blocks begin at multiples of a vector register of AVX-512."""

    # schedule
    schedule_exact_ridge: float = 1e-13
    """The lowest error on exact data is about 1e5 times its square root."""
    schedule_exact_jumps: float = 1e-7
    """Of fits of deep networks to exact data, on the jumps of the splines' highest derivatives: at the ends of hidden
    ranges, where few rows are, splines go on as polynomials instead of falling to 0. Of 1e-11 to 1e-6 it is best on
    [4,4,2,1]."""
    schedule_exact_gain: float = 4.0
    """By which a squared error falls from one grid to the next, at least, where data are exact."""
    schedule_extreme_values: int = 33
    """Of each input, among which the one is found that makes a hidden value lowest or highest."""
    schedule_extreme_passes: int = 2
    """Over all inputs, to find them."""
    schedule_extreme_share: float = 0.1
    """Of a hidden range, by how much extreme rows may be outside it."""
    schedule_most_excess: float = 20.0
    """By which share extreme rows may raise the squared error of a deep network on exact data; with more, another start
    is tried: up to 17 in good fits of [4,4,2,1], from 50 on in poor ones."""
    schedule_tries: int = 3
    """Of the starts of a deep network on exact data, at most, if its error falls too slowly."""
    schedule_start_rows: int = 2000
    """Enough to compare starts."""
    schedule_enough_rows: int = 5000
    """Rows, and rows per parameter: more change less than the choices do."""
    schedule_enough_each: int = 50
    """Rows for each parameter that count as enough."""
    schedule_enough_work: float = 6e9
    """The most rows times squared parameters, so that choices about wide networks take seconds."""
    schedule_start_steps: int = 25
    """Of each start."""
    schedule_settle_steps: int = 40
    """Of the best start."""
    schedule_grow_steps: int = 60
    """On each finer grid."""
    schedule_ahead_steps: int = 10
    """On a grid after one that gained nothing, before it is known to gain."""
    schedule_wide: int = 300
    """Parameters from which on starts take few steps, and only the best is continued."""
    schedule_rate: float = 6.0
    """The squared error of a deep network falls at least with this power of the step, or it is stuck: 8 in theory, from
    6 on in good fits on grids as coarse as 5 and 10."""
    schedule_alike: float = 0.1
    """Two starts whose squared errors differ by less than this share are limited by the data, not by the start."""
    schedule_converged: float = 1e-11
    """Of the variance: a squared error that no further start need improve on."""
    schedule_good_share: float = 0.01
    """Of the error of a constant: a fit with less needs no finer grids than the default ones."""
    schedule_bins: int = 100
    """Of an input, to look for structure in the residuals that a grid is too coarse for."""
    schedule_rows_per_bin: int = 8
    """At least; with fewer rows there are fewer bins."""
    schedule_bins_share: float = 0.1
    """Of the validation rows' residuals that bins must explain to ask for finer grids."""
    schedule_scores_ridge: float = 1e-6
    """Of losses that may have no finite best scores: classes that can be separated, counts of 0."""
    schedule_all_rows_steps: int = 10
    """For a network that is fitted to enough of the rows already."""
    schedule_least_share: float = 1e-12
    """Frequency of a class without rows, so that its logarithm is finite."""
    schedule_share: float = 0.5
    """Of a standard error: by so much the smoother of two networks may be worse."""

    # basis_tensor
    basis_tensor_leading: int = 14
    """Leading bits of a step: a float holds their product with an interval's number exactly."""
    basis_tensor_equal: float = 1e-13
    """Of a step: tolerance for a knot of a uniform grid."""

    # batches
    batches_kept: int = 2**23
    """Numbers, 64 MiB: up to here all rows are kept as tensors."""

    # gradient_fit
    gradient_fit_decay: float = 1e-4
    """Weight decay of coefficients and base weights, Adam only."""
    gradient_fit_small_gain: float = 1e-3
    """Relative: less counts against the patience."""
    gradient_fit_certain: float = 2.0
    """Standard errors by which a finer grid must be better."""
    gradient_fit_validations: int = 50
    """Validations in an Adam run; LBFGS has one per step."""
    gradient_fit_most_failures: int = 5
    """Steps in a row that may fail before a run ends."""
    gradient_fit_full_batch: int = 512
    """Adam's batch: all rows up to the first number, else the second."""
    gradient_fit_batch: int = 256
    """Rows of a batch of Adam."""
    gradient_fit_worth_sharing: float = 3e7
    """Rows times coefficients."""
    gradient_fit_numbers_at_once: int = 2**20
    """Of the largest array of a pass."""
    gradient_fit_outside: float = 0.02
    """A grid is updated if its input leaves the range by so much, or uses less of it than this."""
    gradient_fit_used: float = 0.6
    """Share of its range below which a hidden node wants another one."""
    gradient_fit_worse: float = 1.1
    """Factor by which a grid update may raise the loss."""
    gradient_fit_range_rows: int = 2000
    """To set ranges by."""

    # optimizers
    optimizers_memory: int = 20
    """Pairs that LBFGS keeps."""
    optimizers_decrease: float = 1e-4
    """Of the Wolfe conditions."""
    optimizers_curvature: float = 0.9
    """Wolfe's second condition."""
    optimizers_most_trials: int = 25
    """Of one line search."""
    optimizers_expansion: int = 4
    """Factor for a step that is too short."""
    optimizers_least_cosine: float = 1e-10
    """Between step and gradient change; less is rounding."""
    optimizers_adam_floor: float = 1e-8
    """Added to the root of the second moment (epsilon of Adam)."""

    # target_means
    target_means_least_prior: float = 1.0
    """Rows of the overall mean that a category's mean counts at least, and at most: an input whose categories have
    equal means may still matter beside others."""
    target_means_most_prior: float = 50.0
    target_means_bins: int = 16
    """In which the mean answer is compared with that of the rows where the input is missing."""
    target_means_rows_of_a_bin: int = 10
    """At least."""
    target_means_certain: float = 3.0
    """Standard errors by which no bin has such an answer: the fill value then lies beyond the range."""
    target_means_beyond: float = 0.2
    """Of the range, by how much."""
    target_means_names: float = 0.5
    """Share of the rows: with more categories an input is a name, which says nothing about other rows."""
    target_means_fewest_names: int = 20
    """Categories that are no names, however few rows there are."""

    # encoding_search
    encoding_search_rows: int = 5000
    """At most."""
    encoding_search_numbers: int = 21
    """At which the loss is computed, over the range."""
    encoding_search_passes: int = 2
    """Over all inputs."""
    encoding_search_prior: float = 10.0
    """Rows, of the median loss, that a number of one standard deviation away costs."""

    # table_fit
    table_fit_rounds: int = 2
    """Networks that are fitted to choose the numbers: on three small tables the second gained 0.002, 0.0005 and 0.46 of
    R², a third 0.001 to 0.003."""


TRAINING = TrainingSettings()
