"""The formula of `fit` and `simplify`, an additive model with named curves, as a candidate beside those of the search.
For many tables that follow no short law it is the best formula."""

import logging
import warnings

from kanserve.data.dataset import Dataset
from kanserve.errors import KanserveError
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.results import Findings
from kanserve.search.findings.warm_start import refit_starts
from kanserve.simplification import simplify
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.fitting import fit

INPUTS = 20  # inputs up to which a search that has found no law also names the curves of an additive network
ROWS = 5000  # rows that it is fitted to, at most
SHARE = 0.03  # share of the time limit that is reserved for it
SECONDS = 3.0  # most seconds that are reserved for it


class _OutOfTimeError(Exception):
    pass


def reserve_seconds(seconds: float) -> float:
    """The part of the time limit that is reserved for this fit."""
    return min(SHARE * seconds, SECONDS)


def add_simplified_fit(found: Findings, rows: Dataset, finisher: Finisher, seed: int) -> Findings:
    """Add the formula that `fit` and `simplify` find on the rows to the front. Returns the findings unchanged if they
    hold a law, were interrupted, have many inputs, or if time is short."""
    few_inputs = len(rows.inputs) <= INPUTS
    if found.status in ("exact", "within noise", "not decided") or found.ended == "interrupted" or not few_inputs:
        return found
    return refit_starts(_simplify_additive(rows, finisher, seed), finisher).join(found)


def _simplify_additive(rows: Dataset, finisher: Finisher, seed: int) -> list[Tree]:
    """Fit and simplify an additive network. Returns its tree in a list, empty if time runs out."""

    def in_time(_: object) -> None:
        if finisher.over():
            raise _OutOfTimeError

    some = rows.sample(ROWS, seed)
    try:
        in_time(None)
        with warnings.catch_warnings():  # that it is no better than a straight line, as the list of formulas shows too
            warnings.simplefilter("ignore", TrainingWarning)
            kan = fit([len(rows.inputs), 1], some, seed=seed, progress=in_time)
        kan = simplify(kan, some, seed=seed, progress=in_time)
        if not kan.symbolic:
            kan = simplify(kan, some, all_edges=True, seed=seed, progress=in_time)
        return list(trees(kan).trees) if kan.symbolic else []
    except _OutOfTimeError:
        return []
    except KanserveError as error:  # such as too few rows
        logging.getLogger(__name__).debug("no simplified fit: %s", error)
        return []
