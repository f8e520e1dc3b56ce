"""The edits of a session as methods; each takes a step."""

from collections.abc import Sequence
from typing import Self

from kanserve.editing import steps
from kanserve.editing.session_history import SessionHistory
from kanserve.editing.step_fields import Tolerance
from kanserve.editing.steps import STEPS_SHORT, Refit
from kanserve.network.edge_names import edge_names, place_of
from kanserve.network.parameter_names import names_parameters


class SessionEdits(SessionHistory):
    """The edits. An edit that fails raises and changes nothing."""

    def snap(self, edge: str, function: str, refit: int = STEPS_SHORT) -> Self:
        """Replace an edge by the closest c·f(a·x + b) + d, then refit everything.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".
        function : str
            The name of f, such as "sin" or "x^2".
        refit : int, default=12
            Iterations of the refit after it; 0 leaves all other parameters as they are.

        Raises
        ------
        NotFoundError
            Unknown edge or function.
        InputError
            Each of these would leave its domain on the data, or be a constant or a line.

        Examples
        --------
        >>> session.free("x->y").snap("x->y", "sin").kan.formula().text
        '2*sin(3*x) + 1'
        """
        return self.do(steps.Snap(self._canonical_edge(edge), function, refit))

    @names_parameters()
    def free(self, edge: str, grid: int | None = None) -> Self:
        """Replace a named function by a spline that equals it to a ten-thousandth and can then be refined.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".
        grid : int, optional
            The fewest intervals of the spline, up to 64; it has more where that precision needs them.

        Raises
        ------
        NotFoundError
            Unknown edge.
        InputError
            The edge has no named function, or `grid` is out of range.

        Examples
        --------
        >>> session.free("x->y").kan.formula().closed_form
        False
        """
        return self.do(steps.Free(self._canonical_edge(edge), grid))

    def zero(self, edge: str) -> Self:
        """Remove an edge; its mean on the data stays as a constant.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".

        Raises
        ------
        NotFoundError
            Unknown edge.
        InputError
            The edge is zero already.

        Examples
        --------
        >>> session.zero("x->y").edges
        ()
        """
        return self.do(steps.Zero(self._canonical_edge(edge)))

    def keep(self, edges: int, refit: int = STEPS_SHORT) -> Self:
        """Keep the edges with the largest share of the signal, then refit everything.

        Parameters
        ----------
        edges : int
            How many, 1 or more.
        refit : int, default=12
            Iterations of the refit after it; 0 leaves all other parameters as they are.

        Raises
        ------
        InputError
            An argument is out of range.

        Examples
        --------
        >>> kan = kanserve.from_formula("sin(x) + y/100", ranges={"x": (-1, 1), "y": (-1, 1)})
        >>> x = [[n / 10, (n * n % 7) / 7] for n in range(-10, 11)]
        >>> kanserve.Session(kan, (x, kan(x))).keep(1, refit=0).edges
        ('x->y',)
        """
        return self.do(steps.Keep(edges, refit))

    def take(self, formula: str) -> Self:
        """Replace the network by a formula of its inputs, such as one that `find_formulas` found.

        Parameters
        ----------
        formula : str
            As `kanserve.from_formula` takes it, in the names of the inputs.

        Raises
        ------
        InputError
            It is not a formula of these inputs, or the network has several outputs.

        Examples
        --------
        >>> session.take("x**2").kan.formula().text
        'x^2'
        """
        return self.do(steps.Take(formula))

    def set(
        self,
        edge: str,
        a: float | None = None,
        b: float | None = None,
        c: float | None = None,
        d: float | None = None,
    ) -> Self:
        """Set constants of an edge's c·f(a·x + b) + d, with x in the data's units.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".
        a, b, c, d : float, optional
            The constants to set; the others stay.

        Raises
        ------
        NotFoundError
            Unknown edge.
        InputError
            The edge has no named function, or a spline beside it; or no constant is given.

        Examples
        --------
        >>> session.set("x->y", a=2.5).kan.formula().text
        '2*sin(2.5*x) + 1'
        """
        return self.do(steps.SetConstant(self._canonical_edge(edge), a, b, c, d))

    def round(self, digits: int = 3, edges: Sequence[str] = ()) -> Self:
        """Round the constants of named functions to significant digits.

        Parameters
        ----------
        digits : int, default=3
            From 1 to 17.
        edges : sequence of str, optional
            The names of the edges; by default all with named functions.

        Raises
        ------
        NotFoundError
            Unknown edge.
        InputError
            An argument is out of range, or an edge has no named function.

        Examples
        --------
        >>> session.set("x->y", a=2.9871).round(2).kan.formula().text
        '2*sin(3*x) + 1'
        """
        called = edges if isinstance(edges, str) else tuple(self._canonical_edge(edge) for edge in edges)
        return self.do(steps.RoundConstants(digits, called))  # type: ignore[arg-type]  # it refuses a text

    def rename(self, old: str, new: str, of: str = "") -> Self:
        """Rename an input or an output.

        Parameters
        ----------
        old, new : str
            The names.
        of : {"", "input", "output"}, default=""
            Which is meant, if an input and an output have the old name.

        Raises
        ------
        NotFoundError
            Nothing has the old name.
        InputError
            An input and an output have the old name, and `of` does not say which is meant.
        NetworkError
            The new name is another input's or output's, or empty.

        Examples
        --------
        >>> session.rename("x", "time").edges
        ('time->y',)
        """
        return self.do(steps.Rename(old, new, of))

    def refit(self, steps: int = 100, smooth: float = 0.0) -> Self:
        """Fit all parameters to the training rows, from their present values.

        Parameters
        ----------
        steps : int, default=100
            The most iterations.
        smooth : float, default=0.0
            The strength of the smoothness penalty on the splines.

        Raises
        ------
        InputError
            The network has more than 1500 parameters, or an argument is out of range.

        Examples
        --------
        >>> session.set("x->y", a=2.9).refit().kan.formula().text
        '2*sin(3*x) + 1'
        """
        return self.do(Refit(steps, smooth))

    def prune(self, tolerance: Tolerance = "auto") -> Self:
        """Remove edges and nodes that the data do not need, by `kanserve.prune`. Hidden nodes may be renumbered.

        Parameters
        ----------
        tolerance : float or "auto", default="auto"
            The error that this may add, in standard deviations of each output.

        Raises
        ------
        InputError
            The tolerance is out of range.

        Examples
        --------
        >>> kan = kanserve.from_formula("sin(x) + y/1e6", ranges={"x": (-1, 1), "y": (-1, 1)})
        >>> x = [[n / 10, (n * n % 7) / 7] for n in range(-10, 11)]
        >>> kanserve.Session(kan, (x, kan(x))).prune(tolerance=0.001).edges
        ('x->y',)
        """
        return self.do(steps.Prune(tolerance))

    def symbolify(self, functions: Sequence[str] = (), all_edges: bool = False, tolerance: Tolerance = "auto") -> Self:
        """Replace edges by named functions as far as the data allow, by `kanserve.symbolify`.

        Parameters
        ----------
        functions : sequence of str, optional
            The names of the functions to try; by default the library.
        all_edges : bool, default=False
            Whether to replace every edge, whatever that costs.
        tolerance : float or "auto", default="auto"
            The error that this may add, in standard deviations of each output; `all_edges` ignores it.

        Raises
        ------
        NotFoundError
            Unknown function.
        InputError
            An argument is out of range.

        Examples
        --------
        >>> session.free("x->y").symbolify().kan.formula().text
        '2*sin(3*x) + 1'
        """
        return self.do(steps.Symbolify(functions, all_edges, tolerance))  # type: ignore[arg-type]  # it makes a tuple

    def _canonical_edge(self, edge: str) -> str:
        """The canonical name of an edge."""
        return edge_names(self.kan)[place_of(self.kan, edge)]
