"""The settings of the last test of a formula: whether the residuals of all rows are noise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvidenceSettings:
    """Settings of `binned_deviation` and of what follows from it, as `SearchSettings.evidence`."""

    bins: int = 30
    """Bins of one input."""
    rows_per_bin: int = 30
    """Rows that a bin needs: with fewer, there are fewer bins."""
    pair_inputs: int = 10
    """Inputs up to which pairs of inputs are binned too."""
    deviation_limit: float = 5.0
    """Standard errors by which the binned residuals of a formula may deviate from noise before they refute it."""
    neighbour_rows: int = 4000
    """Rows on which neighbours are compared."""
    baseline_standard_errors: float = 3.0
    """Least size of a term of a polynomial that is listed, in its standard errors."""
    more_rows: int = 10_000
    """Rows on which a law that leaves only noise of those of the search must do so too."""
    refit_steps: int = 20
    """Steps of the fit to them."""
    growing_sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    """Numbers of terms of the sums that are listed."""
    growing_knots: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    """Quantiles of the values of an input at which a piecewise linear function of it may bend."""
    growing_terms: int = 600
    """Terms that are tried, at most."""
    growing_rows: int = 3
    """Rows for each term of a sum, at least."""
    growing_rounding: float = 1e-10
    """Relative: less of a term beside the others is rounding."""
    row_growth: int = 10
    """Times as many rows for the next search, after one that settled on a refuted formula."""
    most_rows: int = 10_000
    """Rows of the largest search."""
    additive_intervals: tuple[int, ...] = (5, 10, 20)
    """Intervals of the splines of an additive model, until they leave only noise."""
    additive_inputs: int = 10
    """Inputs up to which an additive model is named."""
    additive_names: int = 4
    """Names that are tried for each input."""
    additive_margin: float = 12.0
    """Names whose information criterion is higher than the best by more are not tried."""

    held_out_rows: int = 40
    """Samples of which some are held out; with fewer, formulas are validated by leave-one-out errors."""
    informative_share: float = 0.99
    """Share of all weights that the samples have, at least, on which laws are looked for: the heaviest that do."""
    informative_rows: int = 100
    """Samples that these are, at least."""
    undetermined: float = 1e-9
    """Singular values of the derivatives by the constants, relative to the largest, that are rounding."""

    # losses
    tail_evidence: float = 15.0
    """Twice the logarithm of how much more likely the residuals are under a t than normal, from which their tails are
    heavy: for normal residuals once in twenty thousand searches."""

    tail_deviations: float = 2.0
    """Deviations beyond which errors with heavy tails are cut off while structure is looked for."""

    # outliers
    outlier_most_rows: int = 3000
    """Samples among which outliers are looked for; the others are compared with these."""
    outlier_block: int = 10_000
    """Samples that are compared at once."""
    outlier_terms: int = 130
    """Terms of the polynomial, at most."""
    outlier_ridge: float = 1e-12
    """Added to the normal equations, relative to their diagonal."""
    outlier_rows: int = 50
    """Samples that are needed to tell outliers."""
    outlier_degree: int = 8
    """Degree of the polynomial, at most."""
    outlier_rows_per_term: int = 8
    """Samples for each of its terms, at least."""
    outlier_steps: int = 12
    """Steps of the iteratively reweighted least squares."""
    outlier_biweight: float = 4.685
    """Deviations beyond which a sample has no weight: Tukey's constant."""
    outlier_neighbours: int = 5
    """Neighbours that a sample is compared with."""
    outlier_deviations: float = 10.0
    """Deviations from the neighbours that make a sample an outlier."""
    outlier_least_scale: float = 1e-3
    """Least deviation that is told from 0, relative to that of the outputs."""
    outlier_gap: float = 2.0
    """Ratio of the smallest outlier to the largest other deviation, at least."""
    outlier_share: float = 0.1
    """Share of outliers among the samples, at most, and among the neighbours of a sample that is off alone."""
    outliers_together: float = 0.4
    """Share of the outliers that may have another one for a neighbour: more are a part of the law."""
