"""Interactive editing of a network in steps that can be undone, saved and replayed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset, dataset
from kanserve.displays import display
from kanserve.editing import html_page, session_storage, snapshot, steps
from kanserve.editing.edge_fits import closest, points, require_alive
from kanserve.editing.editing_limits import EDITING
from kanserve.editing.session_data import SessionData, rows_for
from kanserve.editing.snapshot import Done, Snapshot
from kanserve.editing.step_fields import Tolerance, truth, whole_number
from kanserve.editing.steps import Refit, Step
from kanserve.editing.suggestions import Suggestion, suggestions
from kanserve.errors import FormatError, InputError, KanserveError
from kanserve.network.edge_names import edge_names, place_of
from kanserve.network.kan import Kan, Symbolic
from kanserve.network.renamed_names import renamed_keyword
from kanserve.plot import plot_edge
from kanserve.plot.matplotlib_scene import Width
from kanserve.plot.notebook import network_formulas, network_part
from kanserve.plot.palette import Theme
from kanserve.simplification.activations import Array
from kanserve.simplification.edge_candidates import LIBRARY

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class _State:
    """A step, the network after it, and that network's loss on the held-out rows."""

    step: Step
    kan: Kan
    loss: float


class Session:
    """Edits of a network, and the data to evaluate them on; every edit is a frozen step in a list.

    Losses are on held-out rows, fits on the others. Edges are given by name: "L/D->h1" (`kanserve.network.edge_names`).
    Each edit returns the session. An edit that fails raises and changes nothing: NotFoundError for an unknown edge or
    function, InputError if a function would leave its domain on the data, or an argument is out of range.

    Parameters
    ----------
    kan : Kan
        The network to begin with.
    data : Dataset or tuple of array_like
        Samples: a Dataset, or (x, y), in raw units.
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
    >>> script = session.as_python()  # gives the equal network
    """

    def __init__(
        self, kan: Kan, data: Dataset | tuple[ArrayLike, ArrayLike], *, seed: int = 0, held_out: bool = True
    ) -> None:
        self._seed = whole_number(seed, "seed", 0, EDITING.session_storage_most_seed)
        self._held_out = truth(held_out, "held_out")
        self._rows = rows_for(kan, dataset(data, classes=kan.classes), self._seed, self._held_out)
        self._first = kan
        self._done: list[_State] = []
        self._undone: list[Step] = []
        self._watchers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Session({self.kan!r}, {len(self._done)} steps, held-out loss {self.loss:.4g})"

    def _repr_html_(self) -> str:
        kan = self.kan
        drawn = network_part(kan, self._rows.judge.x, EDITING.html_page_picture_bytes)
        return html_page.html(self.snapshot(), network_formulas(kan), drawn)

    @property
    def kan(self) -> Kan:
        """The network after all steps that are done."""
        return self._done[-1].kan if self._done else self._first

    @property
    def first(self) -> Kan:
        """The network before all steps."""
        return self._first

    @property
    def loss(self) -> float:
        """The loss on the held-out rows: the mean squared error relative to the variances, or the cross-entropy."""
        return self._done[-1].loss if self._done else self._rows.loss(self._first)

    @property
    def edges(self) -> tuple[str, ...]:
        """The names of the edges that are not zero."""
        kan = self.kan
        return tuple(name for (depth, j, i), name in edge_names(kan).items() if kan.layers[depth].alive[j, i])

    @property
    def history(self) -> tuple[Done, ...]:
        """The steps so far, each with the number of edges and the loss after it."""
        return tuple(Done(session_storage.call(done.step), done.kan.edges, done.loss) for done in self._done)

    @property
    def undone(self) -> tuple[Step, ...]:
        """The steps that can be redone, the next one last."""
        return tuple(self._undone)

    @property
    def rows(self) -> SessionData:
        """The data, and which rows are held out."""
        return self._rows

    def snapshot(
        self,
        points: int = EDITING.snapshot_curve,
        most_edges: int | None = None,
        *,
        shares: tuple[Array, ...] | None = None,
    ) -> Snapshot:
        """The session as plain data for a view: curves of so many points, and only the edges of the largest share.

        `shares` are those of the edges, where they are known already (`editing.snapshot.shares_of`).
        """
        whole_number(points, "points", 2, 10_000)
        done = self.history, len(self._undone)
        return snapshot.snapshot(self.kan, self._rows, *done, points, most_edges, shares)

    def suggest(
        self, edge: str, top: int = EDITING.session_top, functions: Sequence[str] = LIBRARY
    ) -> tuple[Suggestion, ...]:
        """Candidate functions for an edge, best first: R² to the present edge, and the held-out loss after `snap`.

        Only the `top` functions that fit best for their complexity are tried.
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
        """Draw an edge with candidate functions, named or the best ones of `suggest`; see `kanserve.plot_edge`.

        Each function is drawn as fitted to the edge; the legend has its R² and the loss after `snap`. It needs the
        extra `plot`.
        """
        place = place_of(self.kan, edge)
        require_alive(self.kan, place)
        if isinstance(candidates, int):
            count = whole_number(candidates, "candidates", 0, len(LIBRARY))
            offered = self.suggest(edge, max(count, EDITING.session_top))[:count] if count else ()
        else:
            offered = self.suggest(edge, max(len(candidates), 1), tuple(candidates))
        found, error = points(self.kan, place, self._rows), self._rows.error(self.kan)
        fits: dict[str, Symbolic] = {}
        for step in offered:
            fit = closest(found, step.function, error)
            if fit is not None:
                fits[_label(step, self.loss)] = fit.symbolic
        return plot_edge(self.kan, *place, data=self._rows.judge.x, ax=ax, fits=fits, theme=theme, width=width)

    def do(self, step: Step) -> "Session":
        """Take a step (`kanserve.editing.steps`); undone steps can no longer be redone. InputError after 1000 steps."""
        self._require_room()
        return self.accept(step, steps.taken(step, self.kan, self._rows))

    def accept(self, step: Step, kan: Kan, *, redone: bool = False) -> "Session":
        """Take a step whose network was computed elsewhere, as `steps.taken(step, session.kan, session.rows)`.

        `redone` says that it is the step that was undone last, so that those undone before it can still be redone.
        """
        self._require_room()
        self._done.append(_State(step, kan, self._rows.loss(kan)))
        if redone:
            self._undone.pop()
        else:
            self._undone.clear()
        self._changed()
        return self

    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` after each change of the network, until what this returns is called."""
        self._watchers.append(told)
        return lambda: self._watchers.remove(told)

    def snap(self, edge: str, function: str, refit: int = EDITING.steps_short) -> "Session":
        """Replace an edge by the closest c·f(a·x + b) + d, then refit everything for `refit` iterations.

        InputError if each of these would leave its domain on the data, or be a constant or a line.
        """
        return self.do(steps.Snap(self._called(edge), function, refit))

    @renamed_keyword("intervals", "grid")
    def free(self, edge: str, grid: int | None = None) -> "Session":
        """Replace a named function by a spline that equals it to a ten-thousandth and can then be refined.

        It has `grid` intervals or more, up to 64.
        """
        return self.do(steps.Free(self._called(edge), grid))

    def zero(self, edge: str) -> "Session":
        """Remove an edge; its mean stays as a constant."""
        return self.do(steps.Zero(self._called(edge)))

    def keep(self, edges: int, refit: int = EDITING.steps_short) -> "Session":
        """Keep so many edges, those with the largest share of the signal, then refit for `refit` iterations."""
        return self.do(steps.Keep(edges, refit))

    def take(self, formula: str) -> "Session":
        """Replace the network by a formula of its inputs, such as one that `find_formulas` found.

        InputError if it is not a formula of these inputs, or if the network has several outputs.
        """
        return self.do(steps.Take(formula))

    def set(
        self,
        edge: str,
        a: float | None = None,
        b: float | None = None,
        c: float | None = None,
        d: float | None = None,
    ) -> "Session":
        """Set constants of an edge's c·f(a·x + b) + d, with x in the data's units.

        InputError if the edge has no named function, or a spline beside it.
        """
        return self.do(steps.SetConstant(self._called(edge), a, b, c, d))

    def round(self, digits: int = 3, edges: Sequence[str] = ()) -> "Session":
        """Round the constants of named functions to significant digits, 1 to 17, on these edges or on all."""
        called = edges if isinstance(edges, str) else tuple(self._called(edge) for edge in edges)
        return self.do(steps.RoundConstants(digits, called))  # type: ignore[arg-type]  # it refuses a text

    def rename(self, old: str, new: str, of: str = "") -> "Session":
        """Rename an input or an output; `of` is "input" or "output" if both have the old name.

        NotFoundError if nothing has that name.
        """
        return self.do(steps.Rename(old, new, of))

    def refit(self, steps: int = 100, smooth: float = 0.0) -> "Session":
        """Fit all parameters to the training rows, from their present values, in at most `steps` iterations.

        `smooth` is the strength of the smoothness penalty on the splines. InputError for more than 1500 parameters.
        """
        return self.do(Refit(steps, smooth))

    def prune(self, tolerance: Tolerance = "auto") -> "Session":
        """Remove edges and nodes that the data do not need, by `kanserve.prune`. Hidden nodes may be renumbered.

        `tolerance` is the error that this may add, in standard deviations of each output.
        """
        return self.do(steps.Prune(tolerance))

    def symbolify(
        self, functions: Sequence[str] = (), all_edges: bool = False, tolerance: Tolerance = "auto"
    ) -> "Session":
        """Replace edges by named functions as far as the data allow, by `kanserve.symbolify`.

        `tolerance` is the error that this may add, in standard deviations of each output; `all_edges` ignores it.
        """
        return self.do(steps.Symbolify(functions, all_edges, tolerance))  # type: ignore[arg-type]  # it makes a tuple

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
        """
        return display("session_widget")(self, height, repository, name)

    def undo(self) -> "Session":
        """Undo the last step; InputError if there is none."""
        if not self._done:
            raise InputError("There is no step to undo.")
        self._undone.append(self._done.pop().step)
        self._changed()
        return self

    def redo(self) -> "Session":
        """Redo the step that was undone last; InputError if there is none."""
        if not self._undone:
            raise InputError("There is no step to redo.")
        step = self._undone[-1]
        return self.accept(step, steps.taken(step, self.kan, self._rows), redone=True)

    def to_json(self) -> str:
        """The steps, done and undone, as JSON, with checksums of the initial network and the data."""
        return session_storage.dumps(self._stored())

    @classmethod
    def from_json(cls, text: str, kan: Kan, data: Dataset | tuple[ArrayLike, ArrayLike]) -> "Session":
        """The session of `to_json`, replayed on the network and the data that it began with.

        FormatError, with the place, for invalid text, for steps that fail, and for another network or other data.
        """
        stored = session_storage.loads(text)
        if session_storage.network_checksum(kan) != stored.network:
            raise FormatError("The session began with another network than this one.")
        if session_storage.data_checksum(dataset(data, classes=kan.classes)) != stored.data:
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
        """A Python module whose `replay(kan, data)` repeats the steps and gives the equal network."""
        return session_storage.script(self._stored())

    def _require_room(self) -> None:
        if len(self._done) == EDITING.session_storage_most_steps:
            raise InputError(
                f"A session has {EDITING.session_storage_most_steps} steps at most; begin another from its network."
            )

    def _changed(self) -> None:
        for told in list(self._watchers):
            told()

    def _called(self, edge: str) -> str:
        """The canonical name of an edge."""
        return edge_names(self.kan)[place_of(self.kan, edge)]

    def _stored(self) -> session_storage.Stored:
        return session_storage.Stored(
            session_storage.network_checksum(self._first),
            session_storage.data_checksum(self._rows.data),
            self._seed,
            self._held_out,
            tuple(done.step for done in self._done),
            tuple(self._undone),
        )


def _label(one: Suggestion, now: float) -> str:
    return f"{one.function}: R² {one.r2:.5f}, loss {now:.3g} → {one.loss:.3g}"
