"""Search formulas for several outputs one after another, within shared limits of time and fits."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import DataFrame
from kanserve.errors import InputError
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.search.findings.file import read_findings_by_output, write_findings_by_output
from kanserve.search.findings.results import Findings, findings_of, to_stored

Array = NDArray[np.float64]

FIND_FORMULAS_DEFAULT_SECONDS = 60.0  # time limit in seconds of a search for which no limit is given


@dataclass(frozen=True, eq=False, repr=False)
class FindingsByOutput(Mapping[str, Findings]):
    """The findings of each output, by its name: what `find_formulas` returns for several outputs.

    Parameters
    ----------
    found : mapping of str to Findings
        In the order of the outputs.
    fitted_rows : array_like of int, optional
        Hashes of the rows, with all outputs, that the formulas were fitted to.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> y = np.stack([x[:, 0] * x[:, 1], x[:, 0] / x[:, 1]], axis=1)
    >>> found = kanserve.find_formulas((x, y), max_fits=2000)
    >>> {name: findings.best.formula.text for name, findings in found.items()}
    {'y1': 'x1*x2', 'y2': 'x1/x2'}
    >>> [formula.text for formula in kanserve.formulas(found.kan)]
    ['x1*x2', 'x1/x2']
    """

    found: Mapping[str, Findings]
    fitted_rows: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def __getitem__(self, name: str) -> Findings:
        if name not in self.found:
            raise KeyError(f"There is no output {name!r:.60}; there are {', '.join(self.found)}.")
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    @property
    def kan(self) -> Kan:
        """One network that computes the best formula of every output."""
        best = [findings.best for findings in self.found.values()]
        outputs = [formula.kan.outputs[0] for formula in best]
        kan = kan_of([formula.formula.tree for formula in best], best[0].kan.inputs, outputs)
        return record_rows(kan, self.fitted_rows)

    def predict(self, x: ArrayLike | DataFrame) -> Array:
        """The values (N, outputs) of the best formulas at rows x (N, inputs) or at a table's rows.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs) or DataFrame
            Samples in raw units; the columns of a DataFrame go by name.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            The values; NaN where a formula is not finite.

        Raises
        ------
        DataError
            The rows have another width, or a column is missing.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> y = np.stack([x[:, 0] * x[:, 1], x[:, 0] / x[:, 1]], axis=1)
        >>> kanserve.find_formulas((x, y), max_fits=2000).predict([[1.0, 2.0]]).tolist()
        [[2.0, 0.5]]
        """
        return np.stack([findings.predict(x) for findings in self.found.values()], axis=1)

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each formula of each output.

        Returns
        -------
        pandas.DataFrame
            The column output, then those of `Findings.to_frame`.

        Raises
        ------
        MissingDependencyError
            pandas is not installed.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> y = np.stack([x[:, 0] * x[:, 1], x[:, 0] / x[:, 1]], axis=1)
        >>> frame = kanserve.find_formulas((x, y), max_fits=2000).to_frame()
        >>> frame[frame["best"]][["output", "formula"]].values.tolist()
        [['y1', 'x1*x2'], ['y2', 'x1/x2']]
        """
        frames = {name: findings.to_frame() for name, findings in self.found.items()}
        import pandas as pd  # which `Findings.to_frame` has asked for

        for name, frame in frames.items():
            frame.insert(0, "output", name)
        return pd.concat(frames.values(), ignore_index=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the formulas of all outputs to one file, which `FindingsByOutput.load` reads.

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
        >>> y = np.stack([x[:, 0] * x[:, 1], x[:, 0] / x[:, 1]], axis=1)
        >>> found = kanserve.find_formulas((x, y), max_fits=2000)
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "found.safetensors"
        >>> found.save(path)
        >>> kanserve.search.FindingsByOutput.load(path)["y2"].best.formula.text
        'x1/x2'
        """
        stored = {name: to_stored(findings) for name, findings in self.found.items()}
        write_findings_by_output(path, stored, self.fitted_rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FindingsByOutput":
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        FindingsByOutput
            The same formulas.

        Raises
        ------
        NotFoundError
            The file does not exist.
        FormatError
            It holds no findings of several outputs, is damaged, or is of another version of the format.

        Examples
        --------
        >>> import kanserve
        >>> found = kanserve.search.FindingsByOutput.load("found.safetensors")  # doctest: +SKIP
        """
        stored, rows = read_findings_by_output(path)
        return cls({name: findings_of(stored_findings, path) for name, stored_findings in stored.items()}, rows)

    def __str__(self) -> str:
        return "\n".join(f"{name}: {findings}" for name, findings in self.found.items())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(findings._repr_html_() for findings in self.found.values())


def by_output(
    rows: Dataset,
    search: Callable[..., Findings],
    units: Mapping[str, str] | None,
    start: Any,
    seconds: float | None,
    max_fits: int | None,
) -> FindingsByOutput:
    """Run `search` (with the arguments of `find_formulas`) for each output, with equal shares of fits and time left."""
    began = time.perf_counter()
    if not (start is None or isinstance(start, Mapping)) or {*(start or ())} - {*rows.outputs}:
        names = ", ".join(rows.outputs)
        raise InputError(f"start maps outputs to formulas, with the names {names}; got {start!r:.100}.")
    if seconds is None and max_fits is None:
        seconds = FIND_FORMULAS_DEFAULT_SECONDS
    found: dict[str, Findings] = {}
    for number, name in enumerate(rows.outputs):
        limits: dict[str, Any] = {}
        left = len(rows.outputs) - number
        if seconds is not None:
            limits["seconds"] = max((began + seconds - time.perf_counter()) / left, 1e-3) if number else seconds / left
        if max_fits is not None:
            limits["max_fits"] = max(1, max_fits // len(rows.outputs))
        column = replace(rows, y=rows.y[:, number], outputs=(name,))
        own_start = None if start is None else start.get(name)
        found[name] = search(column, units=_units_of(units, rows, name), start=own_start, **limits)
    return FindingsByOutput(found, hash_rows(rows))


def _units_of(units: Mapping[str, str] | None, rows: Dataset, name: str) -> Any:
    """The units of the inputs and of this output."""
    if not isinstance(units, Mapping):
        return units
    others = {output for output in rows.outputs if output != name}
    missing = [output for output in rows.outputs if output not in units]
    if missing:
        raise InputError(f"units lacks {', '.join(missing)}: give all columns, with 1 for a dimensionless number.")
    return {column: unit for column, unit in units.items() if column not in others}
