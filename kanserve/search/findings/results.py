"""The results of a search: a Pareto front of formulas, from the simplest to the most accurate, with their errors."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.frames import DataFrame
from kanserve.errors import FormatError, InputError, MissingDependencyError
from kanserve.formula.constants.robust_fit import FitLoss
from kanserve.search.findings.explained_share import Explained, overall_error
from kanserve.search.findings.file import StoredFindings, read_findings, write_findings
from kanserve.search.findings.page import findings_page
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.findings.table import latex_table

Array = NDArray[np.float64]

Status = Literal["exact", "within noise", "not decided", "refuted", "out of time"]
Ending = Literal["settled", "exhausted", "seconds", "max_fits", "interrupted"]
Selection = Literal["best", "accuracy", "score"]

# Nats by which a formula must be ahead of all others to be decided: odds of 150 to 1. Wrong ones on the suites with 1%
# of noise were ahead by up to 3.6, right ones by 6.5 and more.
DECIDED_MARGIN = 5.0
# If no formula settles the search, the best is the simplest with an error up to this times the least.
BEST_ERROR_RATIO = 1.1
# Complexity of a formula of the list, relative to the one before, above which others between them are listed.
GAP_RATIO = 2.0
MOST_RIVALS_NAMED = 3  # rivals whose text is in the meaning of a status: more would hide the rest of it


@dataclass(frozen=True, eq=False, repr=False)
class Findings(Sequence[ScoredFormula]):
    """The Pareto front of a search, a sequence of formulas: `candidates`, the simplest first, each at least 5% better
    on held-out rows than all simpler ones, or 1% where it fills a gap, or explaining a tenth more of what the best one
    explains; and `best`, the recommended one.

    There is a gap where a formula is over twice as complex as the one before; see `gaps` for those that nothing fills.

    `status` says what the samples tell of `best`: "exact"; "within noise", its residuals on all samples are noise;
    "not decided", likewise, but other formulas, `rivals`, are as good, or it has too many constants for its lead;
    "refuted", they depend on the inputs, and everything was tried; "out of time", likewise, and something was not.

    `ended` says why the search ended: "settled" by a law that is exact or leaves only noise, "exhausted" when
    everything was tried, "seconds" or "max_fits" at that limit, "interrupted" by Ctrl-C.

    Parameters
    ----------
    candidates : tuple of ScoredFormula
        The formulas, the simplest first.
    best : ScoredFormula
        One of them.
    ended : {"settled", "exhausted", "seconds", "max_fits", "interrupted"}
        Why the search ended.
    outliers : int
        Samples that were left out as outliers, and that `best` does not explain.
    rivals : tuple of ScoredFormula
        Other formulas that leave only noise and are within 5 nats of the description length of `best`, odds of 150 to
        1, or within 8 nats by what the samples alone say, without the price of complexity and with recognised numbers
        as estimates: the samples do not decide between these. The first are the shortest.
    margin : float
        By how many nats the description length of `best` is ahead of that of the next formula that leaves only noise.
    compared : int
        How many forms were fitted and compared.
    decided : bool
        Whether `best` is far enough ahead: 5 nats, also by what the samples alone say of forms with no more numbers,
        and 8 more for each fitted constant beyond four. With a complexity
        above 25, or above 18 if no other formula leaves only noise, too few forms as long are compared to decide; so
        they are where the search was cut off by `seconds`, `max_fits` or an interrupt.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
    >>> found.status, found[-1] is found.best
    ('exact', True)
    >>> found.meaning
    'exact: the formula agrees with all samples to rounding.'
    >>> found.loss, len(found.scores) == len(found), found.scores[0]
    ('squared', True, 0.0)
    >>> [(before.formula.text, after.formula.text) for before, after in found.gaps]
    [('3.162483', '4.6863/x2')]
    """

    candidates: tuple[ScoredFormula, ...]
    best: ScoredFormula
    ended: Ending = "settled"
    outliers: int = 0
    rivals: tuple[ScoredFormula, ...] = ()
    margin: float = math.inf
    compared: int = 0
    decided: bool = True

    @overload
    def __getitem__(self, index: int) -> ScoredFormula: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ScoredFormula, ...]: ...

    def __getitem__(self, index: int | slice) -> ScoredFormula | tuple[ScoredFormula, ...]:
        return self.candidates[index]

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def status(self) -> Status:
        """One of "exact", "within noise", "not decided", "refuted" and "out of time", for `best`."""
        if self.best.exact:
            return "exact"
        if not self.best.refuted:
            return "within noise" if self.decided and not self.rivals else "not decided"
        return "refuted" if self.ended in ("settled", "exhausted") else "out of time"

    @property
    def loss(self) -> FitLoss:
        """The loss that the constants of the best formula minimise: "squared", "huber" or "student_t"."""
        return self.best.loss

    @property
    def meaning(self) -> str:
        """The status and its explanation as text."""
        meaning = _TOO_FEW_COMPARED if self.status == "not decided" and not self.rivals else _MEANING[self.status]
        but = f" But for {self.outliers} outlier{'s' * (self.outliers > 1)}." if self.outliers else ""
        return f"{self.status}: {meaning}{self._rivalry}{_FITTED[self.loss]}{but}"

    @property
    def _rivalry(self) -> str:
        """A sentence on how many forms were compared and how far behind the next one is; "" if the status does not
        depend on that."""
        if self.best.exact or self.best.refuted or not self.compared:
            return ""
        others = f" Of {self.compared} forms compared, "
        if not self.rivals:
            ahead = (
                "no other leaves only noise"
                if self.margin == math.inf
                else f"the next is {self.margin:.1f} nats behind"
            )
            return f"{others}{ahead}."
        texts = "; ".join(rival.formula.text for rival in self.rivals[:MOST_RIVALS_NAMED])
        return f"{others}{len(self.rivals)} may be the law as well: {texts}."

    @property
    def scores(self) -> tuple[float, ...]:
        """The score of each formula: the drop in the logarithm of the mean squared validation error per unit of added
        complexity, compared with the formula before; 0 for the first."""
        found = [0.0]
        for before, after in pairwise(self.candidates):
            fall = math.log(before.validation / after.validation) if after.validation > 0 else math.inf
            found.append(2 * fall / (after.complexity - before.complexity))
        return tuple(found)

    @property
    def gaps(self) -> tuple[tuple[ScoredFormula, ScoredFormula], ...]:
        """Neighbours in the list of which the second is over twice as complex as the first. None of the formulas tried
        in between was better than the first by 1%, as between the mean and x1*x2."""
        ratio = GAP_RATIO
        return tuple(pair for pair in pairwise(self.candidates) if pair[1].complexity > ratio * pair[0].complexity)

    def select(self, selection: Selection) -> ScoredFormula:
        """The formula that a rule chooses.

        Parameters
        ----------
        selection : {"best", "accuracy", "score"}
            "best" is the law that settled the search, else the simplest formula with a validation error within a
            tenth of the least that explains nine tenths of what the best explains; "accuracy" has the least validation
            error, "score" the highest score.

        Returns
        -------
        ScoredFormula
            One of the candidates.

        Raises
        ------
        InputError
            The rule does not exist.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> found.select("score").formula.text
        '3*x1/x2'
        """
        check_selection(selection)
        if selection == "accuracy":
            return min(self.candidates, key=lambda candidate: candidate.validation)
        if selection == "score":
            scores = self.scores
            return self.candidates[max(range(len(scores)), key=scores.__getitem__)]
        return self.candidates[-1] if self.ended == "settled" else simplest_good(self.candidates)

    def chosen(self, selection: Selection) -> "Findings":
        """These findings with the best formula by a rule.

        Parameters
        ----------
        selection : {"best", "accuracy", "score"}
            The rule, as in `select`; "best" changes nothing.

        Returns
        -------
        Findings
            The same formulas, with another `best`.

        Raises
        ------
        InputError
            The rule does not exist.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> found.chosen("score").best.formula.text
        '3*x1/x2'
        """
        return self if selection == "best" else replace(self, best=self.select(selection))

    def predict(self, x: ArrayLike | DataFrame, index: int | None = None) -> Array:
        """The values (N,) of `best`, or of the formula with this index in the list, at rows x (N, inputs).

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs) or DataFrame
            Samples in raw units; the columns of a DataFrame go by name.
        index : int, optional
            The formula's place in the list, from 0.

        Returns
        -------
        ndarray of shape (n_samples,)
            The values; NaN where the formula is not finite.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> found.predict([[1.0, 2.0]]).tolist()
        [1.5]
        """
        return (self.best if index is None else self.candidates[index]).predict(x)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each formula.

        Returns
        -------
        pandas.DataFrame
            The columns formula, complexity, error, validation, score, exact, refuted and best.

        Raises
        ------
        MissingDependencyError
            pandas is not installed.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> found.to_frame()["formula"].iloc[-1]
        '3*x1/x2'
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependencyError("pandas") from None
        rows = self._rows("text")
        for row, candidate in zip(rows, self.candidates, strict=True):
            row |= {"exact": candidate.exact, "refuted": candidate.refuted, "best": candidate is self.best}
        return pd.DataFrame(rows)

    def latex_table(
        self, columns: Sequence[str] = ("formula", "complexity", "validation", "score"), digits: int = 3
    ) -> str:
        """The formulas as a table for LaTeX with the package booktabs.

        Parameters
        ----------
        columns : sequence of str
            Some of "formula", "complexity", "error", "validation" and "score".
        digits : int, default=3
            Of the numbers beside the formulas.

        Returns
        -------
        str
            An environment `tabular`.

        Raises
        ------
        InputError
            The column does not exist.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> print(found.latex_table(["formula", "complexity"]).splitlines()[2])
        Formula & Complexity \\\\
        """
        return latex_table(self._rows("latex"), columns, digits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the formulas, and the samples that they were fitted to, to one file, which `Findings.load` reads.

        Parameters
        ----------
        path : str or path
            The file, by convention *.safetensors; an existing file is replaced atomically.

        Raises
        ------
        NotFoundError
            The folder does not exist.
        ConflictError
            The path is a folder.

        Examples
        --------
        >>> import kanserve, numpy as np, pathlib, tempfile
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000)
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "found.safetensors"
        >>> found.save(path)
        >>> kanserve.Findings.load(path).best.formula.text
        '3*x1/x2'
        """
        write_findings(path, to_stored(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Findings":
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        Findings
            The same formulas.

        Raises
        ------
        NotFoundError
            The file does not exist.
        FormatError
            It holds no findings, is damaged, or is of another version of the format.

        Examples
        --------
        >>> import kanserve
        >>> found = kanserve.Findings.load("found.safetensors")  # doctest: +SKIP
        """
        return findings_of(read_findings(path), path)

    def _rows(self, style: Literal["text", "latex"]) -> list[dict[str, Any]]:
        return [
            {
                "formula": str(getattr(candidate.formula, style)),
                "complexity": candidate.complexity,
                "error": candidate.error,
                "validation": candidate.validation,
                "score": score,
            }
            for candidate, score in zip(self.candidates, self.scores, strict=True)
        ]

    def __str__(self) -> str:
        return "\n".join([self.meaning, *self._lines()])

    __repr__ = __str__

    def _lines(self) -> list[str]:
        return [f"{'*' if candidate is self.best else ' '} {candidate}" for candidate in self.candidates]

    def _repr_html_(self) -> str:
        return findings_page(self)


_MEANING: dict[Status, str] = {
    "exact": "the formula agrees with all samples to rounding.",
    "within noise": "what the formula leaves of the samples is noise.",
    "not decided": "what the formula leaves of the samples is noise, but so is what others leave.",
    "refuted": "what the best formula leaves of the samples depends on the inputs.",
    "out of time": "what the best formula so far leaves of the samples depends on the inputs.",
}


_TOO_FEW_COMPARED = "what the formula leaves of the samples is noise, but too few other forms were compared to be sure."
_FITTED: dict[FitLoss, str] = {
    "squared": "",
    "huber": " Its constants are fitted by Huber's loss.",
    "student_t": " Its constants are fitted by the loss of Student's t.",
}


def check_selection(selection: str) -> None:
    if selection not in get_args(Selection):
        raise InputError(f"selection is one of {', '.join(get_args(Selection))}; got {selection!r:.60}.")


def simplest_good(listed: Sequence[ScoredFormula]) -> ScoredFormula:
    """The simplest formula with an error within BEST_ERROR_RATIO of the least, that explains as much as the best."""
    least = min(candidate.validation for candidate in listed)
    limit = BEST_ERROR_RATIO * least
    errors = {candidate: overall_error(candidate) for candidate in listed}
    explained = Explained.of(errors.values(), len(listed[0].data))
    good = [candidate for candidate in listed if candidate.validation <= limit]
    best = min(errors[candidate] for candidate in good)
    return next(candidate for candidate in good if not explained.more(best, errors[candidate]))


def to_stored(found: Findings) -> StoredFindings:
    """Convert findings to the content of a file."""
    best = [candidate is found.best for candidate in found.candidates].index(True)
    facts: dict[str, Any] = {
        "ended": found.ended,
        "best": best,
        "outliers": found.outliers,
        "rivals": len(found.rivals),
        "margin": None if found.margin == math.inf else found.margin,
        "compared": found.compared,
        "decided": found.decided,
    }
    every = (*found.candidates, *found.rivals)
    formulas = [candidate.facts() for candidate in every]
    return StoredFindings(facts, formulas, [candidate.kan for candidate in every], found.candidates[0].data)


def findings_of(stored: StoredFindings, path: str | os.PathLike[str]) -> Findings:
    """Rebuild findings from the content of a file. Raises FormatError if something is missing."""
    facts = stored.facts
    try:
        made = [
            ScoredFormula.of_facts(own, kan, stored.data) for kan, own in zip(stored.kans, stored.formulas, strict=True)
        ]
        ended = facts["ended"]
        if ended not in get_args(Ending):
            raise ValueError(f"ended is {ended!r:.40}")
        listed = len(made) - int(facts.get("rivals", 0))  # which older files lack, as the next three
        return Findings(
            candidates=tuple(made[:listed]),
            best=made[int(facts["best"])],
            ended=ended,
            outliers=int(facts["outliers"]),
            rivals=tuple(made[listed:]),
            margin=math.inf if facts.get("margin") is None else float(facts["margin"]),
            compared=int(facts.get("compared", 0)),
            decided=bool(facts.get("decided", True)),
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise FormatError(f"The findings {os.fspath(path)!r} are incomplete: {error!r:.80}.") from None
