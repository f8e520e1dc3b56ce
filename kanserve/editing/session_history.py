"""The state of a session: the network, the rows, and the steps that are done and undone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from numpy.typing import ArrayLike

from kanserve.data.dataset import Dataset
from kanserve.editing import session_storage, steps
from kanserve.editing.session_data import SessionData, rows_for
from kanserve.editing.session_storage import SESSION_STORAGE_MOST_SEED, SESSION_STORAGE_MOST_STEPS
from kanserve.editing.snapshot import Done
from kanserve.editing.step_fields import truth, whole_number
from kanserve.editing.steps import Step
from kanserve.errors import InputError
from kanserve.network.edge_names import edge_names
from kanserve.network.fitted_rows import hash_rows, record_rows, smallest_hashes
from kanserve.network.kan import Kan, require_kan
from kanserve.train.encoded_data import samples_for


@dataclass(frozen=True, eq=False)
class _State:
    """A step, the network after it, and that network's loss on the held-out rows."""

    step: Step
    kan: Kan
    loss: float


class SessionHistory:
    """A network and the steps that changed it; `Session` documents the parameters."""

    def __init__(
        self, kan: Kan, data: Dataset | tuple[ArrayLike, ArrayLike], *, seed: int = 0, held_out: bool = True
    ) -> None:
        require_kan(kan)
        self._seed = whole_number(seed, "seed", 0, SESSION_STORAGE_MOST_SEED)
        self._held_out = truth(held_out, "held_out")
        self._rows = rows_for(kan, samples_for(kan, data), self._seed, self._held_out)
        self._first = kan
        self._fitted_rows = smallest_hashes(kan.fitted_rows, hash_rows(self._rows.given))
        self._done: list[_State] = []
        self._undone: list[Step] = []
        self._watchers: list[Callable[[], None]] = []

    @property
    def kan(self) -> Kan:
        """The network after all steps."""
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
    def states(self) -> tuple[tuple[Step, Kan], ...]:
        """The steps so far, each with the network after it."""
        return tuple((done.step, done.kan) for done in self._done)

    @property
    def undone(self) -> tuple[Step, ...]:
        """The steps that can be redone, the next one last."""
        return tuple(self._undone)

    @property
    def rows(self) -> SessionData:
        """The data, and which rows are held out."""
        return self._rows

    def do(self, step: Step) -> Self:
        """Take a step, as the methods `snap`, `zero` and the others do; undone steps can no longer be redone.

        Parameters
        ----------
        step : Step
            One of the classes in `kanserve.editing.KINDS`.

        Raises
        ------
        InputError
            The session has 1000 steps, or the step cannot be taken.
        NotFoundError
            The step names an edge or a function that is not there.

        Examples
        --------
        >>> session.do(kanserve.editing.KINDS["zero"]("x->y")).edges
        ()
        """
        self._require_room()
        return self.accept(step, steps.take(step, self.kan, self._rows))

    def accept(self, step: Step, kan: Kan, *, redone: bool = False) -> Self:
        """Take a step whose network was computed elsewhere, as `steps.take(step, session.kan, session.rows)`.

        Parameters
        ----------
        step : Step
            The step.
        kan : Kan
            The network after it, which is not checked.
        redone : bool, default=False
            Whether it is the step that was undone last, so that those undone before it can still be redone.

        Raises
        ------
        InputError
            The session has 1000 steps.

        Examples
        --------
        >>> from kanserve.editing import steps
        >>> zero = steps.Zero("x->y")
        >>> session.accept(zero, steps.take(zero, session.kan, session.rows)).edges
        ()
        """
        self._require_room()
        kan = record_rows(kan, self._fitted_rows)
        self._done.append(_State(step, kan, self._rows.loss(kan)))
        if redone:
            self._undone.pop()
        else:
            self._undone.clear()
        self._notify_watchers()
        return self

    def undo(self) -> Self:
        """Undo the last step.

        Raises
        ------
        InputError
            Nothing is left to undo.

        Examples
        --------
        >>> session.zero("x->y").undo().edges
        ('x->y',)
        """
        if not self._done:
            raise InputError("No step is left to undo.")
        self._undone.append(self._done.pop().step)
        self._notify_watchers()
        return self

    def redo(self) -> Self:
        """Redo the step that was undone last.

        Raises
        ------
        InputError
            Nothing is left to redo.

        Examples
        --------
        >>> session.zero("x->y").undo().redo().edges
        ()
        """
        if not self._undone:
            raise InputError("No step is left to redo.")
        step = self._undone[-1]
        return self.accept(step, steps.take(step, self.kan, self._rows), redone=True)

    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each change of the network.

        Parameters
        ----------
        told : callable
            It takes no arguments.

        Returns
        -------
        callable
            Ends the calls.

        Examples
        --------
        >>> end = session.watch(lambda: print(len(session.history), "steps"))
        >>> session = session.zero("x->y")
        1 steps
        >>> end()
        """
        self._watchers.append(told)
        return lambda: self._watchers.remove(told)

    def _require_room(self) -> None:
        if len(self._done) == SESSION_STORAGE_MOST_STEPS:
            raise InputError(
                f"A session has {SESSION_STORAGE_MOST_STEPS} steps at most; begin another from its network."
            )

    def _notify_watchers(self) -> None:
        for told in list(self._watchers):
            told()

    def _to_stored(self) -> session_storage.Stored:
        return session_storage.Stored(
            session_storage.network_checksum(self._first),
            session_storage.data_checksum(self._rows.given),
            self._seed,
            self._held_out,
            tuple(done.step for done in self._done),
            tuple(self._undone),
        )
