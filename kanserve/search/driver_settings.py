"""The settings of searches with constraints or a template, of their workers, and of formulas that are not the law."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DriverSettings:
    """Settings of `constraints`, `templates`, `all_samples`, `postprocess`, `pareto_front`, `shorter_formulas` and
    `workers`, as `SearchSettings.driver`."""

    # constraints
    unsimplified_complexity_ratio: float = 2.0
    """Complexity of a candidate, relative to `max_complexity`, up to which it is kept: it is not simplified yet."""

    # templates
    template_difference: float = 1e-6
    """Relative step of the difference quotient of a template by an unknown function."""
    template_least_sensitivity: float = 0.1
    """Least slope of the template by an unknown function, relative to its 0.9 quantile: less amplifies the noise."""
    template_most_left_out: float = 0.5
    """Largest share of the rows that are left out because their slope is smaller."""
    template_starts: tuple[float, ...] = (1.1, -1.1, 0.3, -0.3, 3.1, -3.1)
    """Values from which each unknown constant of a template is fitted. None is 1, which would vanish in a product."""
    template_most_starts: int = 36
    """Combinations of these, at most."""
    template_refined: int = 4
    """Combinations that are refined, those of the least error."""
    template_steps: int = 40
    """Steps of Levenberg-Marquardt of the unknown constants."""
    template_rounds: int = 3
    """Rounds of searches for the unknown functions, at most, where there are several of them, or unknown constants."""

    # all_samples
    beside_one: float = 1e-9
    """What a factor of -1 is more than that, from which it is fitted: -1 itself is a sign, no constant."""

    # postprocess
    step_error: float = 1.01
    """Error of a step, relative to that of the steep curve that it replaces, at most."""
    most_simplified_terms: int = 6
    """Of a sum that the samples refute; a longer one, such as a cubic polynomial, is listed as it was fitted."""

    # pareto_front
    gap_ratio: float = 2.0
    """Complexity of a formula of the list, relative to the one before, above which others between them are listed."""
    gap_error_ratio: float = 0.99
    """Error of these, relative to the simpler one's, at most."""
    explained_share: float = 0.1
    """Share of what the best formula explains that a formula explains beyond a simpler one, and is listed for."""
    explained_evidence: float = 12.0
    """By how much its mean squared error is below the simpler one's, times the samples, at least."""
    as_good_complexity: float = 0.75
    """Complexity of a formula, relative to that of the law that settled the search, up to which it may replace it."""
    as_good_error: float = 1.005
    """Its error, relative to that of the law, at most."""
    listing_seconds: float = 0.5
    """Seconds beyond the limit of time in which simple formulas are still listed, as they were fitted."""
    least_listed: int = 6
    """Formulas that are listed even without that time."""

    # simplified_fit
    simplified_fit_inputs: int = 20
    """Inputs up to which a search that has found no law also names the curves of an additive network."""
    simplified_fit_rows: int = 5000
    """Rows that it is fitted to, at most."""
    simplified_fit_share: float = 0.03
    """Share of the time limit that is reserved for it."""
    simplified_fit_seconds: float = 3.0
    """Most seconds that are reserved for it."""

    # shorter_formulas
    shorter_most_complexity: float = 80.0
    """Complexity of a formula, at most, of which shorter forms are looked for; larger ones are long sums."""
    shorter_rows: int = 200
    """Rows, at most, on which shorter forms of a formula are compared before the best is fitted to all."""
    shorter_step: float = 0.8
    """Largest complexity of a shorter form, relative to the one before, if there is any such form."""
    shorter_error: float = 1.02
    """Error of a shorter form of a refuted law on few samples, relative to the law's, at most."""
    shorter_tried: int = 3
    """Shorter forms, at most, of which the first that is still shorter with its constants fitted is taken."""

    # workers
    workers_after_seconds: float = 0.2
    """Seconds after which a search of several jobs starts its workers. With 0 it waits for them, as in tests."""
