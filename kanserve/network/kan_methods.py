"""The methods of a network: `kan(x)`, `kan.predict(x)`, `kan.plot()`, `kan.formula()`, and so on.

Each method calls the public function of `kanserve` that does the work. These functions are in packages above this one,
which import `Kan`, so they are looked up by name in `kanserve` when they are used.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from kanserve.displays import display
from kanserve.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.analysis import Contributions
    from kanserve.formula import Formula
    from kanserve.network.evaluate import Rows
    from kanserve.network.export_options import ExportOptions, ExportPrecision
    from kanserve.network.kan import Variable

Array = NDArray[np.float64]


class KanMethods:
    """The methods of `Kan` that other packages implement."""

    outputs: "tuple[Variable, ...]"
    classes: tuple[str, ...]

    def __call__(self, x: "Rows") -> Array:
        """The outputs of the network; the same as `kanserve.evaluate(kan, x)`.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
            Samples in raw units.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            The outputs in raw units; the scores of a classifier. A sample in which anything is not finite is NaN.

        Raises
        ------
        DataError
            x is not numbers, or has another number of columns.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> kan([[0.0], [0.5]]).tolist()
        [[1.0], [2.0]]
        """
        result: Array = _public("evaluate")(self, x)
        return result

    def predict(self, x: "Rows") -> NDArray[Any]:
        """The class labels of a classifier, or the outputs of any other network.

        This is the reference evaluation. `kanserve.load_model` runs a published model many times faster.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
            Samples in raw units.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            For a classifier, the most probable class of each sample as text, "" for a sample in which anything is not
            finite. Otherwise the outputs, always with two axes.

        Raises
        ------
        DataError
            x is not numbers, or has another number of columns.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
        >>> kan.predict([[0.25]]).tolist()
        [[0.75, 0.25]]
        """
        values = self(x)
        return likeliest(self.classes, values) if self.classes else values

    def plot(
        self,
        data: "Rows | None" = None,
        kind: Literal["auto", "flow", "matrix", "heatmap"] = "auto",
        ax: "Axes | None" = None,
        *,
        theme: Literal["auto", "light", "dark"] = "auto",
        width: float | str | None = None,
    ) -> "Axes":
        """Draw the network; the same as `kanserve.plot_network(kan, data)`. It needs the extra `plot`.

        Parameters
        ----------
        data : array_like of shape (n_samples, n_inputs), DataFrame, Dataset or pair (x, y), optional
            Samples on which the edges' shares of the signal are computed; by default samples of the training range.
        kind : {"auto", "flow", "matrix", "heatmap"}, default="auto"
            A graph with a curve on each edge, a table of curves, or heat maps; "auto" takes what can be read.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        theme : {"auto", "light", "dark"}, default="auto"
            The colours and the ground; "auto" shows on both.
        width : {"column", "page"} or float, optional
            One or two columns of a journal, or inches.

        Returns
        -------
        matplotlib Axes
            The axes; `.figure.savefig("kan.png")` saves the picture.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> kan.plot().figure.savefig("line.png")  # doctest: +SKIP
        """
        axes: Axes = _public("plot_network")(self, data, kind, ax, theme=theme, width=width)
        return axes

    def explain(self, x: "Rows", data: "Rows | None" = None) -> "Contributions":
        """How much each input contributes to each prediction; the same as `kanserve.explain(kan, x, data)`.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
            The rows to explain, in raw units.
        data : array_like of shape (n_rows, n_inputs), DataFrame or Dataset, optional
            Background rows, such as the training rows; by default samples of the training range.

        Returns
        -------
        Contributions
            Shapley values, which add up to the prediction minus the mean prediction of the background rows.

        Raises
        ------
        DataError
            As from `kanserve.explain`.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("x^2 + 3*z", ranges={"x": (-1, 1), "z": (0, 1)})
        >>> kan.explain([[1.0, 0.5]], [[0.0, 0.0], [1.0, 1.0]]).values.tolist()
        [[[0.5, 0.0]]]
        """
        found: Contributions = _public("explain")(self, x, data)
        return found

    def show(self, data: Any = None, *, height: int | None = None) -> None:
        """Show the network: in a notebook as a widget to look at and edit, elsewhere as its formulas.

        Without anywidget, which is in the extra `notebook`, a notebook shows its picture. To go on with the edited
        network, make a session and show that: `session = kanserve.Session(kan, data)`, then `session.widget()`.

        Parameters
        ----------
        data : Dataset or (x, y), optional
            Samples on which it is judged and refitted; by default rows of its training range, with its own answers.
        height : int, optional
            Of the widget in pixels, 720 by default.

        Examples
        --------
        >>> import kanserve
        >>> kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)}).show()
        Kan(1-1, 1 edges, inputs x)
        y = 2*x + 1
        """
        display("show_network")(self, data, height)

    def _repr_html_(self) -> str:
        shown: str = display("network_page")(self)
        return shown

    @overload
    def formula(self) -> Any: ...

    @overload
    def formula(self, output: str | int) -> "Formula": ...

    def formula(self, output: str | int | None = None) -> Any:
        """The formula of the network, so that `kan.formula().text` works for the usual single output.

        Parameters
        ----------
        output : str or int, optional
            The name or the index of one output. Without it the result depends on how many outputs there are.

        Returns
        -------
        Formula or tuple of Formula
            One formula if the network has one output or `output` is given; else a formula for each output, in order.
            `kanserve.formulas(kan)` always returns a tuple.

        Raises
        ------
        InputError
            Unknown output.
        FormulaError
            A formula is not finite everywhere in the training range (see `kanserve.formulas`).

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> kan.formula().text
        '2*x + 1'
        """
        every: tuple[Formula, ...] = _public("formulas")(self)
        if output is None:
            return every[0] if len(every) == 1 else every
        names = [variable.name for variable in self.outputs]
        if output in names:
            return every[names.index(str(output))]
        if isinstance(output, int) and not isinstance(output, bool) and 0 <= output < len(names):
            return every[output]
        raise InputError(f"The network has no output {output!r:.80}; it has {', '.join(names)}.")

    def export(
        self,
        folder: str | os.PathLike[str],
        formats: Sequence[str] = ("onnx_graph", "c_source", "numpy_source"),
        *,
        name: str | None = None,
        precision: "ExportPrecision | None" = None,
        options: "ExportOptions | None" = None,
        processors: Sequence[str] = (),
    ) -> tuple[Path, ...]:
        """Write the network as source, graph and library files: what `kanserve export` writes.

        Parameters
        ----------
        folder : str or path
            A new folder. Each format gets a folder of its own in it.
        formats, name, precision, options, processors : optional
            As in `kanserve.export`.

        Returns
        -------
        tuple of Path
            The files that were written, sorted.

        Raises
        ------
        ConflictError, ExportError, InputError, MissingDependencyError, NotFoundError
            As from `kanserve.export`.

        Examples
        --------
        >>> import kanserve, tempfile, pathlib
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> files = kan.export(pathlib.Path(tempfile.mkdtemp()) / "line", formats=["numpy_source"])
        >>> [path.name for path in files]
        ['model.py']
        """
        written: tuple[Path, ...] = _public("export")(
            self, folder, formats, name=name, precision=precision, options=options, processors=processors
        )
        return written

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one file, which `kanserve.load` reads; the same as `kanserve.save(kan, path)`.

        Parameters
        ----------
        path : str or path
            The file, by convention `*.safetensors`. An existing file is replaced atomically.

        Raises
        ------
        OSError
            The file cannot be written.

        Examples
        --------
        >>> import kanserve, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "kan.safetensors"
        >>> kanserve.create([2, 1]).save(path)
        >>> kanserve.load(path).shape
        (2, 1)
        """
        _public("save")(self, path)


def likeliest(classes: Sequence[str], scores: NDArray[Any]) -> NDArray[np.str_]:
    """The class with the highest score of each row (N, classes); "" if a score is not finite."""
    finite = np.isfinite(scores).all(axis=1)
    return np.where(finite, np.array(classes)[scores.argmax(axis=1)], "")


def _public(name: str) -> Any:
    return getattr(import_module("kanserve"), name)
