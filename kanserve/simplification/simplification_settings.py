"""The settings of simplification: the numbers that decide what is tried, believed or kept, with its meaning.

`SIMPLIFICATION.get()` gives those in force. `simplify(..., settings=...)` and its steps put others in force for a call.

"Prototype's value": that of the prototypes of training and search, with which their results were measured. Other
sources are not recorded. Steps are of Levenberg-Marquardt.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class SimplificationSettings:
    """Settings of `simplify`, `prune`, `symbolify` and `discover`, named after the module that uses them.

    Each is a number or a choice, with its meaning beside its default.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> from kanserve.simplification import SimplificationSettings
    >>> x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    >>> data = x, x[:, 0] ** 2
    >>> fewer = SimplificationSettings(validation_held_out_share=0.1)
    >>> kanserve.prune(kanserve.fit([2, 1], data), data, settings=fewer).shape
    (2, 1)
    """

    # simplification
    simplify_negligible_error: float = 1e-6
    """Error that pruning may add once all edges have names, in standard deviations of an output."""

    # activations
    activations_most_values: float = 1e7
    """Values of all edges of a layer together, at most, for statistics of edges; for more, fewer rows are used."""
    activations_fewest_rows: int = 200
    """Rows that are used even for larger layers, if there are as many."""

    # architecture_search
    architecture_search_rows: int = 1000
    """Training rows, and likewise held-out rows, that the search uses, at most."""
    architecture_search_most_work: float = 1e11
    """Multiplications that the search may take: about ten seconds of one core."""
    architecture_search_steps_per_architecture: int = 200
    """Fitting steps that one architecture takes, roughly, by which its multiplications are estimated."""
    architecture_search_patience: int = 2
    """Architectures in a row without improvement before early stopping."""
    architecture_search_learned_error: float = 0.9
    """Early stopping applies only once the best error, in standard deviations of the outputs, is below this."""
    architecture_search_deep_starts: int = 3
    """Starts of a deep network to prune, at most. In the prototype, up to three solved 9 of 10 runs, one start 6."""
    architecture_search_start_loss_ratio: float = 4.0
    """A further start is pruned only if its loss is at most this times that of the first."""

    # architectures
    architectures_coarsest_grid: int = 3
    """Intervals of the coarsest grid. Prototype's value."""
    architectures_finer_grids: tuple[int, ...] = (5, 10, 20, 40)
    """Intervals of the finer grids, tried in this order."""
    architectures_most_starts: int = 6
    """Random starts of an architecture, at most. The prototype had 4 to 8."""
    architectures_fewest_starts: int = 2
    """Random starts of an architecture with hidden layers, at least, however large it is."""
    architectures_start_steps: int = 20
    """Steps of a random start. The prototype had 20 to 25."""
    architectures_refit_steps: int = 30
    """Steps of the refit of the best start."""
    architectures_start_work: float = 4e9
    """Multiplications for the starts of one architecture: large networks get fewer starts."""
    architectures_rows_per_parameter: int = 2
    """Rows, counted once per output, per parameter of a finer grid: with fewer, the network may memorise noise."""

    # composites
    composites_layer_complexity: float = 0.5
    """Complexity of the second layer of a composite, in units of the table of functions. Prototype's value."""
    composites_least_weight: float = 1e-12
    """Least weight of a point, and least size of a power that is a factor, each relative to its largest."""
    composites_candidates_each: int = 2
    """Candidates to keep for each outer function, inner function or power."""

    # edge_candidates
    edge_candidates_points: int = 160
    """Points, at most, that represent an edge."""
    edge_candidates_steps_per_round: int = 6
    """Damped Gauss-Newton steps of a round."""
    edge_candidates_refinement_rounds: int = 5
    """Rounds of refinement; between them, functions that no longer improve or are far behind are dropped."""
    edge_candidates_hopeless_loss_ratio: float = 1e3
    """Loss on the coarse grid of constants, relative to the least, above which a function is not refined."""
    edge_candidates_refinement_loss_ratio: float = 1e2
    """Loss after a round, relative to the least, above which a function is refined no further."""
    edge_candidates_rounding: float = 1e-15
    """Rounding error of any fit, relative to a curve's largest value."""
    edge_candidates_complexity_weight: float = 0.12
    """Penalty for a unit of complexity, in powers of ten of the error. Prototype's value."""
    edge_candidates_offset_complexity: float = 0.3
    """Complexity of an offset d that is not 0, in units of the table of functions. Prototype's value."""

    # gauge_fixing
    gauge_fixing_refit_steps: int = 30
    """Steps of the refit at each strength of smoothing, and of the last refit without the added smoothing."""

    # grid_refinement
    grid_refinement_refit_steps: int = 30
    """Steps of the refit on each finer grid."""
    grid_refinement_negligible_error: float = 1e-4
    """Error that is negligible, in standard deviations of the outputs."""
    grid_refinement_explained_error: float = 1e-2
    """Error that is small enough if it is still falling, in standard deviations of the outputs."""
    grid_refinement_falling_ratio: float = 0.7
    """An error falls if it is at most this times that on the grid before; the right shape often gets far below."""
    grid_refinement_patience: int = 2
    """Grids on which the error does not fall before early stopping: one grid may have unfavourable knots."""

    # leave_one_out
    leave_one_out_least_denominator: float = 1e-3
    """Lower bound of 1 - h: a row with h near 1 is fitted exactly whatever its output, and carries no information."""
    leave_one_out_jitter: float = 1e-13
    """Added to the diagonal, relative to its largest element, so that the system is solvable."""

    # merge_1d_chains
    merge_1d_chains_refit_steps: int = 20
    """Steps of the refit after all chains are merged."""
    merge_1d_chains_points_per_coefficient: int = 8
    """Points per coefficient of a spline that is fitted anew."""

    # merge_nodes
    merge_nodes_restarts: int = 12
    """Restarts of merged nodes, at most. Prototype's value."""
    merge_nodes_noise: float = 0.02
    """Standard deviation of the noise in the coefficients of a restarted node's lines. Prototype's value."""
    merge_nodes_outgoing_spread: float = 0.1
    """Standard deviation of the coefficients of its outgoing edges. Prototype's value."""

    # product_powers
    product_powers_grid_margin: float = 0.02
    """Width by which the grid exceeds a product's values on each side, relative to their range."""
    product_powers_least_power: float = 0.05
    """Lower bound of |p|: below it, the factor is not a power but some other curve."""
    product_powers_largest_power: float = 20.0
    """Upper bound of |p|, for the same reason."""
    product_powers_points_per_coefficient: int = 8
    """Points per coefficient of a spline that is fitted anew."""

    # pruning
    pruning_hopeless_error_ratio: float = 20.0
    """A removal is given up if its error exceeds this times the tolerance or the best error, whichever is larger."""
    pruning_patience: int = 6
    """Single removals to try, the least important first, before there is nothing to remove. Prototype's value."""
    pruning_near_error_ratio: float = 3.0
    """Error, relative to the tolerance, up to which the grid may be the cause, so that a finer one is tried."""
    pruning_noisy_error: float = 0.05
    """Error, in standard deviations of the outputs, above which the data count as noisy."""
    pruning_rows_per_parameter: int = 2
    """Rows, counted once per output, per parameter that leave-one-out validation needs."""
    pruning_coarse_intervals: int = 5
    """Intervals during the search, at most. The prototype had 5 to 10."""

    # replacements
    replacements_composite_error_ratio: float = 20.0
    """Composites are tried if every single function's error is above this times the error floor."""

    # sensitivity
    sensitivity_rows: int = 2000
    """Rows, at most, on which sensitivities are computed."""
    sensitivity_least_weight: float = 1e-6
    """Least weight of a point, relative to the largest weight of its edge."""

    # symbolic_edges
    symbolic_edges_spline_complexity: float = 5.0
    """Complexity of a spline, in units of the table of functions. Prototype's value."""

    # symbolification
    symbolification_beam_width: int = 3
    """States kept after each step of the beam search. Prototype's value; greedy search lost one law of 30."""
    symbolification_many_edges: int = 12
    """Number of splines above which the most certain quarter is named at once, and composites are not tried."""
    symbolification_line_error_ratio: float = 0.3
    """A straight line whose error is below this times the network's error is accepted without a search."""
    symbolification_near_error_ratio: float = 3.0
    """Largest error of a function to try edge by edge, relative to the tolerance or the current error, if larger."""
    symbolification_hopeless_error_ratio: float = 10.0
    """Error, relative to the tolerance or the splines' error, if larger, above which naming all edges is given up."""
    symbolification_exact_error: float = 1e-10
    """Error, in standard deviations of the outputs, up to which named functions are exact."""
    symbolification_least_noise_ratio: float = 0.7
    """Least error of named functions, relative to the splines' error, if both errors are noise."""
    symbolification_largest_noise_ratio: float = 1.3
    """Largest error of named functions, relative to the splines' error, if both errors are noise."""
    symbolification_deep_error_ratio: float = 3.0
    """The search with composites stops above this times the error of the splines or of single functions, if larger."""
    symbolification_deep_edges: int = 3
    """Number of edges on which composites and variants are tried, the most certain first."""
    symbolification_deep_offers: int = 2
    """Composites and variants to try on each of these edges, in addition to single functions."""
    symbolification_refit_steps: int = 12
    """Steps of the joint refit after each name. Prototype's value; a single step lost two laws of 30."""

    # validation
    validation_held_out_share: float = 0.2
    """Share of the rows that is held out for validation."""
    validation_most_rows: int = 5000
    """Training rows, and likewise held-out rows, that are used, at most."""
    validation_default_tolerance: float = 1e-2
    """Tolerance, in standard deviations of the outputs: of "auto" at first and at most, and the least of the loose
    rule of pruning. Prototype's value."""
    validation_least_ridge: float = 1e-12
    """Least ridge penalty. Prototype's value: from 1e-8 on, the penalty limited the accuracy."""
    validation_ridge_per_smoothing: float = 0.1
    """Ridge penalty, relative to the strength of smoothing. Prototype's value."""
    validation_smoothing_steps: int = 15
    """Steps of the refit at each strength of smoothing."""
    validation_last_steps: int = 100
    """Steps of the last refit. Prototype's value."""
    validation_largest_loss_increase: float = 0.2
    """Largest increase of the loss that chance may explain, relative to the best loss."""
    validation_cross_validation_rows: int = 1000
    """Rows up to which a classifier is validated by cross-validation."""
    validation_folds: int = 5
    """Folds of this cross-validation."""
    validation_fold_steps: int = 8
    """Steps of the refit of a fold, which continues from the given network."""
    validation_smoothing_loss_ratio: float = 2.0
    """Smoothing is not increased further when the loss exceeds this times the least one."""
    validation_regrid_error_ratio: float = 1.1
    """Grids that move may increase the error to this times the error before. Prototype's value."""
    validation_regrid_error_margin: float = 1e-3
    """Increase of the error that is allowed in addition, in standard deviations of the outputs."""
    validation_grid_margin: float = 0.02
    """Distance, relative to a grid's width, by which values may exceed it before it moves. Prototype's value."""
    validation_least_grid_use: float = 0.6
    """Share of a grid that values must use, or it moves. Prototype's value."""
    validation_most_parameters: int = 1500
    """Number of parameters above which a network is not refitted."""


_DEFAULT = SimplificationSettings()
SIMPLIFICATION = ContextVar("SIMPLIFICATION", default=_DEFAULT)
