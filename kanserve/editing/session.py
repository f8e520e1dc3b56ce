"""Edit a network interactively in steps that can be undone, saved and replayed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset
from kanserve.displays import display
from kanserve.editing import html_page, session_storage, snapshot
from kanserve.editing.edge_fits import closest, points, require_alive
from kanserve.editing.session_data import of_numbers
from kanserve.editing.session_edits import SessionEdits
from kanserve.editing.snapshot import Snapshot
from kanserve.editing.step_fields import whole_number
from kanserve.editing.suggestions import Suggestion, suggestions
from kanserve.errors import FormatError, KanserveError
from kanserve.network.edge_names import place_of
from kanserve.network.kan import Kan, Symbolic
from kanserve.plot import plot_edge
from kanserve.plot.matplotlib_scene import Width
from kanserve.plot.notebook import network_formulas, network_part
from kanserve.plot.palette import Theme
from kanserve.simplification.activations import Array
from kanserve.simplification.edge_candidates import LIBRARY
from kanserve.train.encoded_data import samples_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from kanserve.editing.snapshot import SNAPSHOT_CURVE

PICTURE_BYTES = 20_000  # of the picture of the network in it
TOP = 8  # suggestions for an edge


class Session(SessionEdits):
    """Edits of a network, and the data to evaluate them on; every edit is a frozen step in a list.

    Losses are on held-out rows, fits on the others. Edges are given by name: "L/D->h1" (`kanserve.network.edge_names`).
    Each edit returns the session. An edit that fails raises and changes nothing: NotFoundError for an unknown edge or
    function, InputError if a function would leave its domain on the data, or an argument is out of range.

    Parameters
    ----------
    kan : Kan
        The network to begin with.
    data : Dataset or tuple of array_like
        Samples: a Dataset, or (x, y), in raw units. Categories and missing values are edited as the numbers that the
        network sees of them.
    seed : int, default=0
        Equal seeds hold out the same rows.
    held_out : bool, default=True
        Whether to hold out a fifth of the rows. If False, with fewer than 10 rows, and for a classifier with up to
        1000, fits and losses take all rows.

    Raises
    ------
    DataError
        The data are not those of such a network.
    InputError
        An option is out of range.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 1))
    >>> data = x, 5 + np.sin(3 * x)
    >>> session = kanserve.Session(kanserve.fit([1, 1], data, starts=1), data)
    >>> session.suggest("x1->y")[0].function  # it has R² and the change of the loss too
    'sin'
    >>> session.snap("x1->y", "sin").set("x1->y", a=3.0).refit().kan.formula().text
    'sin(3*x1) + 5'
    >>> session.undo().edges
    ('x1->y',)
    >>> len(session.history), len(session.undone), len(session.states), session.first.symbolic
    (2, 1, 2, False)
    >>> session.loss < 1e-6, len(session.rows.data)
    (True, 100)
    >>> script = session.as_python()  # gives the equal network

    The examples of its methods begin with this session, whose network has one edge:

    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    """

    def __repr__(self) -> str:
        return f"Session({self.kan!r}, {len(self._done)} steps, held-out loss {self.loss:.4g})"

    def _repr_html_(self) -> str:
        kan = self.kan
        drawn = network_part(of_numbers(kan), self._rows.judge.x, PICTURE_BYTES)
        return html_page.html(self.snapshot(), network_formulas(kan), drawn)

    def snapshot(
        self,
        points: int = SNAPSHOT_CURVE,
        most_edges: int | None = None,
        *,
        shares: tuple[Array, ...] | None = None,
    ) -> Snapshot:
        """The session as plain data for a view.

        Parameters
        ----------
        points : int, default=33
            Of each edge's curve, from 2 to 10,000.
        most_edges : int, optional
            Only so many edges, those with the largest share of the signal.
        shares : tuple of ndarray, optional
            The shares of the edges, where they are known already (`editing.snapshot.shares_of`).

        Returns
        -------
        Snapshot
            Frozen; later steps do not change it.

        Raises
        ------
        InputError
            `points` is out of range.

        Examples
        --------
        >>> session.snapshot(points=3).edges[0].function
        'sin'
        """
        whole_number(points, "points", 2, 10_000)
        done = self.history, len(self._undone)
        return snapshot.snapshot(self.kan, self._rows, *done, points, most_edges, shares)

    def suggest(self, edge: str, top: int = TOP, functions: Sequence[str] = LIBRARY) -> tuple[Suggestion, ...]:
        """Candidate functions for an edge: how well they fit it, and what `snap` would cost.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".
        top : int, default=8
            How many functions are tried: those that fit best for their complexity.
        functions : sequence of str, optional
            The names to choose from; by default the library.

        Returns
        -------
        tuple of Suggestion
            The best first: R² to the present edge, and the held-out loss after `snap`.

        Raises
        ------
        NotFoundError
            Unknown edge or function.
        InputError
            `top` is out of range, or the edge is zero.

        Examples
        --------
        >>> session.free("x->y").suggest("x->y")[0].function
        'sin'
        """
        whole_number(top, "top", 1, 1000)
        return suggestions(self.kan, place_of(self.kan, edge), self._rows, tuple(functions), top)

    @np.errstate(all="ignore")
    def plot_edge(
        self,
        edge: str,
        candidates: int | Sequence[str] = 3,
        data: object = None,
        ax: "Axes | None" = None,
        *,
        theme: Theme = "auto",
        width: Width = None,
    ) -> "Axes":
        """Draw an edge with candidate functions, each as fitted to it, by `kanserve.plot_edge`.

        Parameters
        ----------
        edge : str
            Its name, such as "x->y".
        candidates : int or sequence of str, default=3
            The functions by name, or how many of the best of `suggest`.
        data
            Has no effect: the session's rows are drawn.
        ax, theme, width
            As in `kanserve.plot_edge`.

        Returns
        -------
        matplotlib.axes.Axes
            Its legend has the R² of each function and the loss after `snap`.

        Raises
        ------
        NotFoundError
            Unknown edge or function.
        InputError
            The edge is zero, or an argument is out of range.
        MissingDependencyError
            matplotlib is not installed; it is in the extra `plot`.

        Examples
        --------
        >>> axes = session.free("x->y").plot_edge("x->y", ["sin"])
        """
        place = place_of(self.kan, edge)
        require_alive(self.kan, place)
        if isinstance(candidates, int):
            count = whole_number(candidates, "candidates", 0, len(LIBRARY))
            offered = self.suggest(edge, max(count, TOP))[:count] if count else ()
        else:
            offered = self.suggest(edge, max(len(candidates), 1), tuple(candidates))
        kan = of_numbers(self.kan)
        found, error = points(kan, place, self._rows), self._rows.error(kan)
        fits: dict[str, Symbolic] = {}
        for step in offered:
            fit = closest(found, step.function, error)
            if fit is not None:
                fits[_label(step, self.loss)] = fit.symbolic
        return plot_edge(kan, *place, data=self._rows.judge.x, ax=ax, fits=fits, theme=theme, width=width)

    def widget(self, *, height: int | None = None, repository: str = "", name: str = "") -> Any:
        """The session as an interactive widget for a notebook, the studio's page in a cell; edits are steps of it.

        Parameters
        ----------
        height : int, optional
            In pixels, 720 by default.
        repository, name : str
            Where "Publish" writes the next version of a model, and what that is called.

        Returns
        -------
        anywidget.AnyWidget
            As the last line of a cell it is shown. It needs a running kernel, and no port.

        Raises
        ------
        MissingDependencyError
            anywidget is not installed; it is in the extra `notebook`.
        NotFoundError
            This is a checkout whose page is not built: `make studio` builds it, with node.

        Examples
        --------
        >>> widget = session.widget(height=480)
        """
        return display("session_widget")(self, height, repository, name)

    def to_json(self) -> str:
        """The steps, done and undone, as JSON, with checksums of the initial network and the data.

        Returns
        -------
        str
            For `from_json`.

        Examples
        --------
        >>> text = session.zero("x->y").to_json()
        >>> kanserve.Session.from_json(text, kan, (x, kan(x))).edges
        ()
        """
        return session_storage.dumps(self._to_stored())

    @classmethod
    def from_json(cls, text: str, kan: Kan, data: Dataset | tuple[ArrayLike, ArrayLike]) -> "Session":
        """The session of `to_json`, replayed on the network and the data that it began with.

        Parameters
        ----------
        text : str
            What `to_json` gave.
        kan : Kan
            The network before all steps.
        data : Dataset or tuple of array_like
            The samples, as the session had them.

        Returns
        -------
        Session
            With the same steps done and undone.

        Raises
        ------
        FormatError
            The text is invalid, a step fails (the message has its place), or the network or the data are others.

        Examples
        --------
        >>> text = session.zero("x->y").to_json()
        >>> len(kanserve.Session.from_json(text, kan, (x, kan(x))).history)
        1
        """
        stored = session_storage.loads(text)
        if session_storage.network_checksum(kan) != stored.network:
            raise FormatError("The session began with another network than this one.")
        if session_storage.data_checksum(samples_for(kan, data)) != stored.data:
            raise FormatError("The session began with other data than these.")
        session = cls(kan, data, seed=stored.seed, held_out=stored.held_out)
        for number, step in enumerate(stored.steps):
            try:
                session.do(step)
            except KanserveError as error:
                raise FormatError(f"steps[{number}], {session_storage.call(step):.200}: {error}") from None
        session._undone = list(stored.undone)
        return session

    def as_python(self) -> str:
        """The steps as a Python module.

        Returns
        -------
        str
            Its `replay(kan, data)` repeats the steps and gives the equal network.

        Examples
        --------
        >>> print(session.zero("x->y").as_python().partition("def ")[2])
        replay(kan, data):
            session = kanserve.Session(kan, data, seed=0)
            session.zero('x->y')
            return session.kan
        <BLANKLINE>
        """
        return session_storage.script(self._to_stored())


def _label(suggestion: Suggestion, now: float) -> str:
    return f"{suggestion.function}: R² {suggestion.r2:.5f}, loss {now:.3g} → {suggestion.loss:.3g}"
