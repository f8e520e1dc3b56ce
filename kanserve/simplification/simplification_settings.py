"""The settings of simplification: every number that decides what is tried, believed or kept, with its meaning.

`SIMPLIFICATION.get()` gives those in force. `simplify(..., settings=...)` and its steps put others in force for a call.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class SimplificationSettings:
    """Settings of `simplify`, `prune`, `symbolify` and `discover`, named after the module that uses them."""

    # simplification
    simplify_negligible: float = 1e-6
    """In standard deviations of an output: the error that pruning named functions may add."""

    # activations
    activations_most_numbers: float = 1e7
    """Values of all edges of a layer together; for more, fewer rows are used, but at least `FEWEST_ROWS`."""
    activations_fewest_rows: int = 200

    # architecture_search
    architecture_search_search_rows: int = 1000
    architecture_search_most_work: float = 1e11
    """Multiplications that the search may take: about ten seconds of one core."""
    architecture_search_steps_for_each: int = 200
    """Steps of a fit per architecture, about."""
    architecture_search_patience: int = 2
    architecture_search_knows_something: float = 0.9
    """Early stopping applies only once the best error, in standard deviations, is below this."""
    architecture_search_deep_starts: int = 3
    architecture_search_as_good: float = 4.0
    """A further start is pruned only if its loss is at most this times that of the first."""

    # architectures
    architectures_coarsest: int = 3
    architectures_grids: tuple[int, ...] = (5, 10, 20, 40)
    architectures_starts: int = 6
    architectures_fewest_starts: int = 2
    architectures_start_steps: int = 20
    architectures_steps: int = 30
    architectures_start_work: float = 4e9
    """Multiplications for the starts of one architecture: large networks get fewer starts."""
    architectures_rows_for_each: int = 2
    """Rows per coefficient that a fine grid needs."""

    # composites
    composites_price: float = 0.5
    """The complexity of a second layer, in units of the table of functions."""
    composites_least_weight: float = 1e-12
    composites_each: int = 2

    # edge_candidates
    edge_candidates_points: int = 160
    edge_candidates_polish: int = 6
    edge_candidates_rounds: int = 5
    edge_candidates_hopeless: float = 1e3
    """A function whose loss is this many times the best is not refined at all, or no further."""
    edge_candidates_behind: float = 1e2
    edge_candidates_rounding: float = 1e-15
    """Relative to a curve's largest value: the rounding error of any fit."""
    edge_candidates_complexity_weight: float = 0.12
    edge_candidates_free_offset: float = 0.3

    # gauge_fixing
    gauge_fixing_steps: int = 30

    # grid_refinement
    grid_refinement_steps: int = 30
    grid_refinement_fine: float = 1e-4
    """A negligible error, in standard deviations of the outputs."""
    grid_refinement_explained: float = 1e-2
    """An error that is small enough if it is still falling."""
    grid_refinement_falling: float = 0.7
    """Ratio of errors: a network of the right shape gets below it when its intervals are halved, often far below."""
    grid_refinement_strikes: int = 2
    """Grids without improvement before early stopping: one grid may have unfavourable knots."""

    # leave_one_out
    leave_one_out_least: float = 1e-3
    """Lower bound of 1 - h: a row with h near 1 is fitted exactly whatever its output, and carries no information."""
    leave_one_out_jitter: float = 1e-13
    """Relative to the largest diagonal element, added to all of them so that the system is solvable."""

    # merge_1d_chains
    merge_1d_chains_steps: int = 20
    merge_1d_chains_points: int = 8
    """Per coefficient of a spline that is fitted anew."""

    # merge_nodes
    merge_nodes_tries: int = 12
    merge_nodes_noise: float = 0.02
    merge_nodes_spread: float = 0.1

    # product_powers
    product_powers_margin: float = 0.02
    product_powers_least: float = 0.05
    """Bounds of |p|: outside them, the factor is not a power but some other curve."""
    product_powers_most: float = 20.0
    product_powers_points: int = 8
    """Per coefficient of a spline that is fitted anew."""

    # pruning
    pruning_hopeless_loss_ratio: float = 20.0
    """A removal is given up if its error after the first steps exceeds this times the tolerance and the best error."""
    pruning_patience: int = 6
    pruning_near_loss_ratio: float = 3.0
    """An error of up to this many tolerances may be due to the grid."""
    pruning_noisy: float = 0.05
    """An error, in standard deviations of the outputs, above which the data count as noisy."""
    pruning_rows_for_each: int = 2
    pruning_coarse: int = 5
    """Largest number of intervals during the search."""

    # replacements
    replacements_bent: float = 20.0
    """Functions of functions are tried if the error of every single function is above this many floors."""

    # sensitivity
    sensitivity_rows: int = 2000
    sensitivity_least_weight: float = 1e-6

    # symbolic_edges
    symbolic_edges_spline_complexity: float = 5.0

    # symbolification
    symbolification_beam: int = 3
    symbolification_many_edges: int = 12
    symbolification_certain: float = 0.3
    """A straight line whose error is below this share of the network's error is accepted without a search."""
    symbolification_near: float = 3.0
    """Errors in units of the tolerance or of the current error: a function is tried up to `NEAR`, a search stops above
    `ASTRAY`."""
    symbolification_astray: float = 10.0
    symbolification_exact: float = 1e-10
    """`EXACT`: an error that is exact. `FAR_LESS` and `AS_GOOD`: the range, in units of the splines' error, in which
    named functions have the same noise as the splines."""
    symbolification_far_less: float = 0.7
    symbolification_as_good: float = 1.3
    symbolification_worse: float = 3.0
    """The search for functions of functions stops above this times the error of the splines or of single functions."""
    symbolification_deep: int = 3
    """On how many edges functions of functions are tried, and how many on each, in addition to the others."""
    symbolification_special: int = 2
    symbolification_steps: int = 12

    # validation
    validation_held_out: float = 0.2
    validation_most_rows: int = 5000
    validation_default_tolerance: float = 1e-2
    validation_least_ridge: float = 1e-12
    validation_ridge: float = 0.1
    validation_smoothing_steps: int = 15
    validation_last_steps: int = 100
    validation_most_loss: float = 0.2
    validation_few_rows: int = 1000
    validation_folds: int = 5
    """Cross-validation for a classifier with few rows. The refit of a fold continues from the given network."""
    validation_fold_steps: int = 8
    validation_clearly_worse: float = 2.0
    """Increasing smoothness stops when the loss exceeds this times the least one."""
    validation_most_moved: float = 1.1
    validation_resolved: float = 1e-3
    validation_outside: float = 0.02
    """Relative to a grid's width: the grid of a hidden node that exceeds it by more, or uses less, moves before a
    refit."""
    validation_used: float = 0.6
    validation_most_parameters: int = 1500


_DEFAULT = SimplificationSettings()
SIMPLIFICATION = ContextVar("SIMPLIFICATION", default=_DEFAULT)
