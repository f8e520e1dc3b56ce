"""`find_formulas`: symbolic regression by searching small networks with named functions on their edges."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.errors import DataError, FormulaError, InputError
from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.parameter_names import names_parameters
from kanserve.search.findings.all_samples import refit_on_all_samples
from kanserve.search.findings.baselines import baselines
from kanserve.search.findings.checkpoint import SearchCheckpoint
from kanserve.search.findings.constraints import Constraints, check_constraints
from kanserve.search.findings.decompose import solve, solve_with
from kanserve.search.findings.exchanged_parts import with_other_parts
from kanserve.search.findings.explained_share import Explained
from kanserve.search.findings.heavy_tails import winsorise
from kanserve.search.findings.pareto_front import front
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.preprocess import Prepared, prepare
from kanserve.search.findings.progress import Hit, ProgressSearch, SearchReport
from kanserve.search.findings.results import Ending, Findings, Selection, check_selection
from kanserve.search.findings.robust_loss import refit_with_loss
from kanserve.search.findings.rows import Loss, informative, record_search_rows, search_rows
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.findings.several_outputs import FIND_FORMULAS_DEFAULT_SECONDS, by_output
from kanserve.search.findings.shorter_formulas import propose_shorter, without_gaps
from kanserve.search.findings.simplified_fit import add_simplified_fit, reserve_seconds
from kanserve.search.findings.template_search import FIND_FORMULAS_FEWEST_ROWS, by_template
from kanserve.search.findings.units import Units, check_units
from kanserve.search.findings.warm_start import refit_starts, starting_trees
from kanserve.search.fit.description_length import BY_SHAPE_COMPLEXITY_PENALTY
from kanserve.search.fit.problem import SearchProblem, anything, is_exact, settles
from kanserve.search.fit.workers import Workers, worker_count
from kanserve.search.regression.budget import Budget, OutOfBudgetError
from kanserve.search.trees.nodes import Node, price
from kanserve.search.trees.to_network import network
from kanserve.simplification.edge_candidates import LIBRARY
from kanserve.train.argument_checks import not_negative, whole
from kanserve.train.fit_progress import Watch

MOST_ROWS = 1000  # training rows that the search uses, at most; the formulas are then fitted to all training rows
# Largest output, and 1 over it the smallest: beyond, squared errors overflow or underflow a double.
LARGEST_OUTPUT = 1e150
MOST_POSTPROCESSED = 14  # number of formulas to postprocess, at most: those of the Pareto front with the least errors
POSTPROCESS_SHARE = 0.2  # share of the time limit that is reserved for postprocessing
POSTPROCESS_SECONDS = 2.0  # most seconds that are reserved for postprocessing
UNITS_SHARE = 0.6  # share of the time and fits for laws that the units suggest
PARETO_ERROR_RATIO = 0.9  # a formula is postprocessed if its error is below this times that of all simpler ones
MORE_ROWS = 10_000  # rows on which a law that leaves only noise of those of the search must do so too
ROW_GROWTH = 10  # times as many rows for the next search, after one that settled on a refuted formula
LARGEST_SEARCH_ROWS = 10_000  # rows of the largest search
SHARE = 0.8  # share of the budget for the inputs that matter; the rest is for all of them
RIVAL_LENGTH = 30.0  # nats, by a rough measure, up to which a candidate is compared with the law as a formula
MOST_RIVALS = 20  # such candidates, at most, that are simplified: as many as the forms of one input give
# Of the others, those that the samples alone leave within so many nats are listed as they were fitted, at most so many.
NEAR_RIVALS, MOST_NEAR_RIVALS = 8.0, 30
LEAST_LISTED = 6  # formulas that are listed even without that time


@names_parameters()
@np.errstate(all="ignore")  # what overflows or divides by zero is no law; the caller need not read of each
def find_formulas(
    data: TrainingData,
    *,
    target: Target = None,
    units: Mapping[str, str] | None = None,
    seconds: float | None = None,
    max_fits: int | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    functions: Sequence[str] | Mapping[str, Sequence[str]] = LIBRARY,
    nested_constraints: Mapping[str, Mapping[str, int]] | None = None,
    max_complexity: float | None = None,
    template: str | None = None,
    selection: Selection = "best",
    loss: Loss = "auto",
    start: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | SearchReport = False,
) -> Findings | Any:  # Any is FindingsByOutput: a union would refuse `found.best` for one output, by far the most
    """Symbolic regression: formulas of each output, from the simplest to the most exact.

    Small networks are tried in order of size: trees of sums, products and curves. Before that, the law is decomposed
    where the rows allow it: irrelevant inputs, power factors, separable parts, inputs that act only through one
    combination. Each candidate is fitted by Levenberg-Marquardt, its curves are replaced by named functions, and
    everything is refitted. The search ends with the first law that is exact or, on noisy rows, leaves only noise and
    describes the rows better than its rivals; at a limit; or when interrupted (Ctrl-C). It always returns the best
    formulas so far.

    Parameters
    ----------
    data : Dataset, tuple of array_like or DataFrame
        Samples, or (x, y), or a pandas or polars table. A fifth is held out for validation and not used by the search.
        The weights of a Dataset, such as 1/σ² of noise of unequal size, count in all fits, errors and tests.
    target : str or sequence of str, optional
        The columns of the DataFrame that are outputs.
    units : mapping of str to str, optional
        Units of all inputs and of the output, such as {"m": "kg", "v": "m/s", "E": "J"}, with "1" for a dimensionless
        number. With units, the search begins with dimensional analysis.
    seconds : float, optional
        Limit of wall-clock time. 60 by default; with `max_fits`, no limit.
    max_fits : int, optional
        Limit of fits, independent of the machine's speed. A fit is one least-squares fit: of a polynomial that
        reveals the structure of the law, of a small network from one random start, or of all constants after a
        change. The last formulas are still simplified. No limit by default. With `seconds` too, whichever limit is
        reached first ends the search.
    seed : int
        Seed for the held-out rows and the random starts of fits.
    n_jobs : int, optional
        Number of worker processes that run steps of the search ahead, -1 for one per core; they start 0.2 seconds
        into the search. 1 by default, or what joblib's `parallel_config` says, whose backend is used. The formulas do
        not depend on it, unless `seconds` ended the search.
    functions : sequence of str, or mapping of str to sequence of str
        Names of the functions that edges may become; or for some inputs, by name, those that may be applied to
        expressions with that input. Powers and square roots are always allowed; sin and cos allow each other.
    nested_constraints : mapping of str to mapping of str to int, optional
        How often functions may be nested in a function: {"sin": {"sin": 0, "cos": 0}} allows no wave of a wave.
    max_complexity : float, optional
        The complexity that no formula may exceed.
    template : str, optional
        The form of the law, as "f(a)*exp(-b*t)": unknown functions of inputs, here f, and unknown constants, here b
        if it is no input; the rest is known. One unknown function may be anywhere where it can be solved for; several
        must be terms, with known factors. `functions` and `nested_constraints` are for the unknown functions.
    selection : {"best", "accuracy", "score"}
        How `best` is chosen among the formulas, as `Findings.select` does it.
    loss : {"auto", "squared", "huber", "student_t"}
        What is minimised. "auto" leaves out outliers, samples that are set apart from all around them, and is
        otherwise least squares, unless what the best formula leaves has heavy tails; "squared" is least squares of all
        samples. "huber" and "student_t" give large errors less weight when the constants are fitted at last.
    start : Findings, ScoredFormula, Kan, str, sympy.Expr or sequence of these, optional
        Formulas to start from, such as those of an earlier search or a law from the literature. The numbers in them
        are fitted to the data, except -1 as a factor, and they compete with what is found. If one settles the search,
        it ends at once. For several outputs, a mapping from their names to formulas.
    checkpoint : str or path, optional
        A file to which each improvement is written, as by `Findings.save`, and at last the result. If it is there
        already, as after a search that was killed, the search starts from its formulas too.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as a line on the standard error. A callable is
        called with an `Improvement` for each formula that is better than all before.

    Returns
    -------
    Findings or FindingsByOutput
        The formulas, the best of them, and in `ended` why the search ended; for several outputs a mapping from their
        names to these, which share `seconds` and `max_fits`. Equal arguments give equal findings, unless `seconds`
        ended the search.

    Raises
    ------
    DataError
        For classes, fewer than five rows, or outputs beyond 1e150.
    InputError
        For units that no law can relate, for formulas to start from with other inputs, and for invalid options.
    MissingDependencyError
        For `n_jobs` without joblib.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> found = find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
    >>> found.best.formula.text, found.ended
    ('3*x1/x2', 'settled')
    """
    began = time.perf_counter()
    if not whole(seed, 0):
        raise InputError(f"seed must be a whole number of 0 or more, got {seed!r}.")
    check_selection(selection)
    workers = Workers(worker_count(n_jobs))
    rows = _check_rows(data, target, seconds, max_fits)
    options: dict[str, Any]
    if len(rows.outputs) > 1:
        if template is not None or checkpoint is not None:
            raise InputError("template and checkpoint are for one output; search several one at a time.")
        options = {"progress": progress, "n_jobs": n_jobs}
        options |= {"nested_constraints": nested_constraints, "max_complexity": max_complexity, "loss": loss}
        search = partial(find_formulas, seed=seed, functions=functions, selection=selection, **options)
        return by_output(rows, search, units, start, seconds, max_fits)
    known = check_units(units, rows)
    constraints = check_constraints(functions, nested_constraints, max_complexity, rows.inputs)
    samples = search_rows(rows, seed, loss)
    learn, held, telling = samples.learn, samples.held, informative(samples.learn)
    if seconds is None:
        seconds = FIND_FORMULAS_DEFAULT_SECONDS if max_fits is None else math.inf
    if template is not None:
        if not (units is None and start is None and checkpoint is None):
            raise InputError("A search with a template takes no units, start or checkpoint.")
        if loss not in ("auto", "squared"):
            raise InputError(f"A search with a template has the loss 'auto' or 'squared', got {loss!r}.")
        options = {"progress": progress, "loss": "squared", "n_jobs": n_jobs}
        search = partial(find_formulas, seed=seed, nested_constraints=nested_constraints, **options)
        few, limits = telling.sample(MOST_ROWS, seed), constraints.of_complexity()
        composed = Finisher(learn, held, few, None, -math.inf, limits)  # no time: it keeps the form of the template
        by_form = by_template(template, composed, search, functions, seconds, max_fits)
        return record_search_rows(samples.judge(by_form.chosen(selection)), rows)
    saved = SearchCheckpoint(checkpoint)
    starts = starting_trees(saved.add_saved_start(start), rows.inputs)
    watch, report = Watch(progress is True), progress if callable(progress) else None
    plan = _Plan(learn, held, known, began, seconds, seed, constraints, rows.inputs, watch, report, saved, workers)
    fits_left = math.inf if max_fits is None else max_fits
    most = MOST_ROWS
    begun = refit_starts(starts, plan.finisher(learn, held, telling.sample(most, seed), began + seconds))

    def finish(found: Findings) -> Findings:
        finisher = plan.finisher(learn, held, learn, began + seconds)
        judged = refit_on_all_samples(refit_with_loss(found, finisher, loss), finisher)
        return saved.finish(record_search_rows(samples.judge(judged), rows), selection)

    if begun.settled is not None:
        return finish(begun.alone())
    saved.keep(begun.formulas)
    found: Findings | None = None
    with workers:
        while True:
            few = telling.sample(most, seed)
            now, fits = plan.search(few if loss == "squared" else winsorise(few), fits_left)
            found = now if found is None or now.best.validation < found.best.validation else found
            fits_left -= fits
            refuted = now.best.refuted and now.ended in ("settled", "exhausted")
            if not refuted or few is telling or most >= LARGEST_SEARCH_ROWS or fits_left <= 0 or plan.over():
                finisher = plan.finisher(learn, held, few, began + seconds)
                return finish(add_simplified_fit(begun.join(found), telling, finisher, seed))
            most *= ROW_GROWTH


@dataclass(frozen=True, eq=False)
class _Plan:
    """What all rounds of a search share. Each round looks at more rows than the one before."""

    learn: Dataset
    held: Dataset
    known: Units | None
    began: float
    seconds: float
    seed: int
    constraints: Constraints
    names: tuple[str, ...]
    watch: Watch
    report: SearchReport | None
    saved: SearchCheckpoint
    workers: Workers

    def over(self) -> bool:
        return time.perf_counter() > self.began + self.seconds

    def _more(self, few: Dataset) -> Dataset | None:
        """Further samples on which a law that would end the search is tested again; None if no more than in `few`."""
        more = self.learn.sample(MORE_ROWS, self.seed + 1)
        return more if len(more) > len(few) else None

    def finisher(self, learn: Dataset, held: Dataset, few: Dataset, deadline: float) -> Finisher:
        return Finisher(learn, held, few, self.known, deadline, self.constraints)

    def search(self, few: Dataset, most_fits: float) -> tuple[Findings, int]:
        """Search on a few rows. Returns the formulas and the number of fits."""
        ready = prepare(few, self._more(few))
        share = POSTPROCESS_SHARE * self.seconds
        deadline = self.began + self.seconds - reserve_seconds(self.seconds)
        budget = Budget(deadline - min(share, POSTPROCESS_SECONDS), most_fits)
        search = ProgressSearch(
            budget,
            self.seed,
            self.constraints.library,
            logging.getLogger(__name__).debug,
            self.workers,
            began=self.began,
            seconds=self.seconds,
            max_fits=most_fits,
            watch=self.watch,
            report=self.report,
            improved=self.saved.improving(self.finisher(few, self.held.sample(len(few), 0), few, -math.inf)),
            names=self.names,
            ready=ready,
            constraints=self.constraints,
        )
        settled, ended = _search(search, ready, self.known)
        finisher = self.finisher(self.learn, self.held, few, deadline)
        search.columns = tuple(range(ready.x.shape[1]))
        mean, *simple = [
            search.to_hit(baseline)
            for baseline in baselines(ready, self.seed, self.constraints.library)
            if search.may_allow(baseline.tree)
        ]
        kept = [mean, *_promising(mean, [*search.kept, *simple], len(few))]
        rivals = _close_rivals(settled, search.kept, len(few), len(self.names))
        found = _finish(settled, ended, [*rivals, *kept], len(rivals), finisher, self.workers)
        return replace(found, compared=search.tried + search.compared), budget.fits


def _check_rows(data: TrainingData, target: Target, seconds: float | None, max_fits: int | None) -> Dataset:
    rows = dataset(data, target)
    if rows.classes:
        raise DataError(
            "Formulas are found for numeric outputs, but these rows have classes. Fit a KANClassifier and simplify it."
        )
    if len(rows) < FIND_FORMULAS_FEWEST_ROWS:
        raise DataError(f"At least {FIND_FORMULAS_FEWEST_ROWS} rows are needed to find a formula, got {len(rows)}.")
    for size in np.abs(rows.y).max(axis=0).tolist():
        if size > LARGEST_OUTPUT or 0 < size < 1 / LARGEST_OUTPUT:
            raise DataError(
                f"The outputs, up to {size:.3g}, are too large or too small to be squared: give them in other units."
            )
    if not (seconds is None or (not_negative(seconds) and seconds > 0)):
        raise InputError(f"seconds must be a number above 0, got {seconds!r}.")
    if not (max_fits is None or (whole(max_fits, 1) and not isinstance(max_fits, bool))):
        raise InputError(f"max_fits must be a whole number of 1 or more, got {max_fits!r}.")
    return rows


def _search(search: ProgressSearch, ready: Prepared, units: Units | None) -> tuple[Hit | None, Ending]:
    """Run the search: first by dimensional analysis (`units`), then on the rows. Returns the law that was found with
    certainty, or None, and the reason the search ended."""
    whole_budget = search.budget
    try:
        with whole_budget.enforce():
            found = _by_units(search, ready, units) or _by_rows(search, ready)
        return found, "settled" if found is not None else search.reached or "exhausted"
    except OutOfBudgetError:
        return None, whole_budget.limit_reached() or "exhausted"
    except KeyboardInterrupt:
        logging.getLogger("kanserve").warning("Interrupted: these are the formulas found so far.")
        return None, "interrupted"
    finally:
        search.watch.finish()


def _by_units(search: ProgressSearch, ready: Prepared, units: Units | None) -> Hit | None:
    if units is None:
        return None
    problem = SearchProblem(ready.x, ready.y, weights=ready.weights, allowed=_constraint_of(search))
    search.columns = tuple(range(problem.inputs))
    with search.within(UNITS_SHARE):
        for scaling in units.scalings(ready.x):
            found = solve_with(problem, search, scaling)
            if found is not None and settles(found, problem):
                return search.to_hit(found)
    return None


def _by_rows(search: ProgressSearch, ready: Prepared) -> Hit | None:
    if ready.columns != ready.every:
        with search.within(SHARE):
            settled = _in_columns(search, ready, ready.columns)
        if settled is not None:
            return settled
    return _in_columns(search, ready, ready.every)


def _in_columns(search: ProgressSearch, ready: Prepared, columns: tuple[int, ...]) -> Hit | None:
    if not columns:
        return None
    more = ready.more_in(columns)
    x, y = ready.x[:, columns], ready.y
    problem = SearchProblem(x, y, weights=ready.weights, more=more, allowed=_constraint_of(search))
    search.columns = columns
    found = solve(problem, search)
    return search.to_hit(found) if found is not None and settles(found, problem) else None


def _constraint_of(search: ProgressSearch) -> Callable[[Node], bool]:
    """The search's test for allowed trees; without constraints a plain function, which can be sent to workers."""
    return search.allowed if search.constraints.any else anything


def _close_rivals(settled: Hit | None, kept: Sequence[Hit], rows: int, inputs: int) -> list[Hit]:
    """The candidates that may describe the samples about as well as a noisy law: the MOST_RIVALS best by description
    length, then those preferred by the samples alone."""
    if settled is None or is_exact(settled.found):
        return []

    def rough(hit: Hit) -> float:
        return rows * math.log(max(hit.found.error, 1e-300)) + BY_SHAPE_COMPLEXITY_PENALTY * price(hit.node)

    limit = rough(settled) + RIVAL_LENGTH
    # A form that was fitted twice has the same error and as many constants, and so has the law; with a constant more it
    # may have the same error.
    distinct: dict[tuple[float, int], tuple[float, float, Hit]] = {}
    for hit in sorted(kept, key=rough):
        tree = _tree(hit.node, inputs)
        if rough(hit) < limit and tree is not None:
            numbers = len(Constants(tree).places)
            samples = rows * math.log(max(hit.found.error, 1e-300)) + math.log(rows) / 2 * numbers
            length = samples + BY_SHAPE_COMPLEXITY_PENALTY * complexity(tree)
            distinct.setdefault((float(f"{hit.found.error:.6g}"), numbers), (length, samples, hit))
    law = _tree(settled.node, inputs)
    if law is not None:
        distinct.pop((float(f"{settled.found.error:.6g}"), len(Constants(law).places)), None)
    ordered = sorted(distinct.values(), key=lambda one: one[0])
    near = min((samples for _, samples, _ in ordered), default=0.0) + NEAR_RIVALS
    others = [hit for _, samples, hit in ordered[MOST_RIVALS:] if samples < near]
    return [hit for _, _, hit in ordered[:MOST_RIVALS]] + others[:MOST_NEAR_RIVALS]


def _tree(node: Node, inputs: int) -> Tree | None:
    try:
        return trees(network(node, inputs).kan).trees[0]
    except FormulaError:
        return None


def _finish(
    settled: Hit | None, ended: Ending, kept: Sequence[Hit], rivals: int, finisher: Finisher, workers: Workers
) -> Findings:
    """Postprocess the hits while time is left: the law that ended the search, its rivals (the first `rivals` of
    `kept`), the mean, the best of the others, then the rest, simplest first. A noisy law is not `decided` if the search
    was cut off, or time ran out before all rivals were done: with 4 seconds for each of 50 pairs of near forms, eleven
    wrong ones were believed without that, and none with it."""
    close, (mean, *others) = list(kept[:rivals]), kept[rivals:]
    done = {id(hit.found) for hit in ([] if settled is None else [settled, *close])}
    others = [hit for hit in others if id(hit.found) not in done]
    best_first = sorted(others, key=lambda hit: hit.found.held)
    hits = [] if settled is None else [settled, *close]
    hits += [mean, *best_first[:1], *sorted(best_first[1:], key=lambda hit: price(hit.node))]
    steps = [partial(finisher.finish, hit.node, law=hit is settled) for hit in hits]
    steps[1 + MOST_RIVALS : 1 + len(close)] = [partial(_listed, hit.node, finisher) for hit in close[MOST_RIVALS:]]
    best: ScoredFormula | None = None
    found: list[ScoredFormula] = []
    in_time = True
    for hit, taken in zip(hits, workers.ahead(steps, Budget(finisher.deadline)), strict=True):
        if hit is settled:
            best = taken()
            found += [] if best is None else [best, *propose_shorter(best, finisher)]
            continue
        if any(hit is rival for rival in close) and not finisher.over():
            made = taken()
            found += [] if made is None else [made]
            continue
        if hit is mean and best is not None:  # after the law and its rivals
            found += with_other_parts(best, finisher, found)
            in_time = not finisher.over()
        if len(found) > LEAST_LISTED and finisher.listing_over():
            break
        if best is None or hit is mean or price(hit.node) < best.complexity:
            made = taken()
            found += [] if made is None else [made]
    listed = without_gaps(found, best, ended, finisher)
    return replace(listed, decided=listed.decided and in_time and ended in ("settled", "exhausted"))


def _listed(node: Node, finisher: Finisher) -> ScoredFormula | None:
    """Score a formula as it was fitted; simplifying it would take ten times as long."""
    tree = _tree(node, len(finisher.inputs))
    return None if tree is None else finisher.fit_tree(tree)


def _promising(mean: Hit, kept: Sequence[Hit], rows: int) -> list[Hit]:
    """The last MOST_POSTPROCESSED hits of the Pareto front, without the mean."""
    ordered = [mean, *sorted(kept, key=lambda hit: (price(hit.node), hit.found.held))]
    ratio = PARETO_ERROR_RATIO
    explained = Explained.of(map(_error_on_held, ordered), rows)
    better = front(ordered, lambda hit: price(hit.node), _error_on_held, ratio, explained.more_by(_error_on_held))
    return better[1:][-MOST_POSTPROCESSED:]


def _error_on_held(hit: Hit) -> float:
    return hit.found.held
