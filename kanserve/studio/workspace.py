"""What the page's calls do: a session whose steps are computed by worker processes, one step at a time."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import repository
from kanserve.artifact.naming_rules import check_name
from kanserve.artifact_compiler import EXPORTERS
from kanserve.data.table_files import Kind
from kanserve.editing import Session, Step, Suggestion
from kanserve.editing.edge_constants import NAMES, with_constants
from kanserve.editing.session_data import of_numbers
from kanserve.editing.session_storage import step_in
from kanserve.errors import BusyError, ConflictError, InputError, KanserveError, NotFoundError
from kanserve.formula import formulas, register_function
from kanserve.network import serialization
from kanserve.network.edge_names import place_of
from kanserve.network.kan import Kan
from kanserve.network.own_functions import OWN
from kanserve.plot.network_picture import scene_of
from kanserve.plot.network_view import NetworkView
from kanserve.plot.palette import palette
from kanserve.plot.svg import svg_file
from kanserve.studio import jobs
from kanserve.studio.autosave import Autosave, network_key, table_key
from kanserve.studio.background_job import BackgroundJob
from kanserve.studio.constants_view import ConstantView, constants_view
from kanserve.studio.events import Events
from kanserve.studio.opened_model import Opened
from kanserve.studio.page_views import (
    CandidateView,
    EdgeCurve,
    Explained,
    PageView,
    Predicted,
    Responses,
    Rows,
    Tried,
    candidate_views,
    edge_curve,
    explain_row,
    map_at,
    measure,
    page_view,
    predict_row,
    responses_at,
    rows_view,
)
from kanserve.studio.small_tiles import SmallTiles, small_tiles
from kanserve.studio.table_choice import TableView, copies_of, look_at_table, read_choice
from kanserve.studio.worker import Worker, seconds_of
from kanserve.train.encoded_data import in_numbers

MOST_OWN_FUNCTIONS = 50  # that a user may write in one run
STEP_SECONDS = 120.0  # for a step, with its refit
LOOK_SECONDS = 60.0  # for what a look computes: candidates, the ruler, an export
PUBLISH_SECONDS = 300.0  # for compiling, checking and writing a version
OWN_SEARCH_SECONDS = 60.0  # of the search that begins by itself after a fit
FIT_SECONDS = 24 * 3600.0  # for the first fit of a table, which can be cancelled
SIMPLIFY_SECONDS = 24 * 3600.0  # for simplifying the network, which can be cancelled
# Between an interrupt, after which a fit or a search gives its best so far, and the end of its process.
GRACE_SECONDS = 30.0


class Workspace:
    """The state of one studio, on a session of its own or on `session`. Methods may be called from several threads.

    Every change has a revision, also one that others make to the session; a step names the revision that it was made
    on, and is refused with a ConflictError where that is not the present one. A step that is made while another is
    computed is refused with a BusyError.
    """

    def __init__(
        self, opened: Opened, seed: int = 0, session: Session | None = None, state: Path | None = None
    ) -> None:
        """`state` is the folder in which what was done is kept, to go on with it; without it nothing is."""
        self.opened = opened.with_rows()
        self._choice = self._choice_of(self.opened)
        self.kept = Autosave(state)
        self.events = Events()
        self._seed = seed
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._session: Session | None = None
        self._workers: dict[str, Worker] = {}
        self._view: PageView | None = None
        self._seen: dict[tuple[str, str], Any] = {}
        self._trouble = ""
        self._fit_has_one = self._fit_is_to_end = self._search_gives_way = False
        self.revision = 0
        self.published = self.opened.version
        self.served = 0
        self._saved: list[str] = []
        self.formulas: tuple[jobs.FoundFormula, ...] = ()
        self.searching = BackgroundJob("search", self.events)
        self.simplifying = BackgroundJob("simplify", self.events)
        self._unwatch: Callable[[], None] = lambda: None
        self._uploads: TemporaryDirectory[str] | None = None
        if session is not None:
            self._begin(session)
        elif self.opened.kan is not None:
            self._begin(self._session_of(self.opened.kan))
        if state is not None and self.opened.table is not None:
            self.kept = self.kept.of(table_key(self.opened.table))
        elif state is not None and not self.fitting:
            self.kept = self.kept.of(network_key(self.session.first, self.session.rows.given))

    def _session_of(self, kan: Kan) -> Session:
        assert self.opened.data is not None
        return Session(kan, self.opened.data, seed=self._seed)

    def _begin(self, session: Session) -> None:
        self._workers = {name: Worker(session.rows) for name in ("step", "look", "ruler", "search")}
        self._unwatch = session.watch(self._tell_change)
        self._session = session

    def _tell_change(self) -> None:
        with self._state:
            self.revision += 1
            self._seen.clear()
        self._workers["ruler"].end()  # it measures a network that was replaced
        self._keep()
        self.events.tell("changed", revision=self.revision)

    @property
    def session(self) -> Session:
        """The session; BusyError while the first fit runs."""
        if self._session is None:
            raise BusyError(self._trouble or "The first fit is still running. Wait until it is done, or cancel it.")
        return self._session

    @property
    def fitting(self) -> bool:
        return self._session is None

    def close(self) -> None:
        """End the workers and all listening."""
        self._unwatch()
        self._unwatch = lambda: None
        self.events.close()
        for worker in self._workers.values():
            worker.end()
        if self._uploads is not None:
            self._uploads.cleanup()

    # Keeping what was done, and going on with it.

    def _keep(self) -> None:
        """Keep the network and its steps; without a step it replaces nothing that was done before."""
        session, table = self.session, self.opened.table
        if not session.history and (table is None or self.kept.about()):
            return
        if table is not None and not self._choice:  # of several targets
            return
        brought = table is None or (self._uploads is not None and table.is_relative_to(self._uploads.name))
        path = "" if brought or table is None else str(table.absolute())
        self.kept.keep(session, {"title": self.opened.title, "path": path, **self._choice})

    def saved(self) -> dict[str, Any] | None:
        """What was done before with this table or network, until something is done now; None if nothing is kept."""
        if self._session is not None and (self._session.history or self._session.undone):
            return None
        about = self.kept.about()
        return None if about and self._session is not None and not about["steps"] else about

    def resume(self) -> None:
        """Go on with what was done before. NotFoundError if nothing is kept, ConflictError after a step."""
        about = self.saved()
        if about is None:
            raise NotFoundError("Nothing was kept of this table or network.")
        first, states = self.kept.recall()
        if self._session is None:
            self._require_no_network()
            assert self.opened.table is not None
            choice = {key: about[key] for key in ("target", "inputs", "classes", "hidden")}
            self._read(**choice)
            session = self._session_of(first)
            for step, kan in states:
                session.accept(step, kan)
            self._begin(session)
            self.revision += 1
            self.events.tell("changed", revision=self.revision)
            return
        session = self._in_turn(self.revision)
        try:
            for step, kan in states:
                session.accept(step, kan)
        finally:
            self._turn.release()

    # Choosing a table and its columns.

    @property
    def folder(self) -> Path:
        """Where tables that the page brings are kept, until the studio ends."""
        if self._uploads is None:
            self._uploads = TemporaryDirectory(prefix="kanserve-studio-")
        return Path(self._uploads.name)

    @property
    def choosing(self) -> bool:
        """Whether the page asks for a table or for its columns."""
        return self._session is None and self.opened.data is None

    def open_table(self, path: Path) -> TableView:
        """Look at a table whose columns are to be chosen. ConflictError while a network is open."""
        self._require_no_network()
        found = look_at_table(path)
        self.opened = replace(self.opened, title=found.title, table=path, data=None)
        self.kept = self.kept.of(table_key(path))
        self._trouble = ""
        return found

    def table(self) -> TableView | None:
        """The table that is chosen from; None before there is one."""
        return None if self.opened.table is None else look_at_table(self.opened.table)

    def copies(self, target: str) -> list[str]:
        """The columns that look like copies of the target."""
        return [] if self.opened.table is None else copies_of(self.opened.table, target)

    def choose(self, target: str, inputs: Sequence[str], kind: Kind, hidden: Sequence[int]) -> int:
        """Begin to fit the target from the inputs; how many rows without a target are left out."""
        self._require_no_network()
        if self.opened.table is None:
            raise InputError("Choose a table first.")
        gone = self._read(target, inputs, kind == "classification", hidden, kind)
        threading.Thread(target=self.fit, daemon=True).start()
        return gone

    def _read(
        self, target: str, inputs: Sequence[str], classes: bool, hidden: Sequence[int], kind: Kind = "auto"
    ) -> int:
        assert self.opened.table is not None
        kind = "classification" if classes else kind
        data, gone = read_choice(self.opened.table, target, inputs, kind)
        self.opened = replace(self.opened, data=data, hidden=tuple(hidden), target=target)
        self._choice = self._choice_of(self.opened)
        return gone

    @staticmethod
    def _choice_of(opened: Opened) -> dict[str, Any]:
        """The target and the inputs that were chosen of a table, as `_read` takes them."""
        if opened.data is None or not opened.target:
            return {}
        inputs, classes = list(opened.data.inputs), bool(opened.data.classes)
        return {"target": opened.target, "inputs": inputs, "classes": classes, "hidden": list(opened.hidden)}

    def choose_again(self) -> None:
        """Go back to the columns of the table from a fit that has failed."""
        self._require_no_network()
        self.opened, self._trouble = replace(self.opened, data=None), ""
        self.events.tell("changed", revision=self.revision)

    def _require_no_network(self) -> None:
        if self._session is not None or (self.opened.data is not None and not self._trouble):
            raise ConflictError("A network is open or being fitted. Start another studio for another table.")

    # The first fit of a table.

    def fit(self) -> None:
        """Fit a network to the table and begin a session with it, telling the progress."""
        self._trouble, self._fit_has_one, self._fit_is_to_end = "", False, False
        worker = self._workers["fit"] = Worker()
        assert self.opened.data is not None

        def report(now: tuple[str, float, float, float]) -> None:
            line, share, loss, error = now
            self._fit_has_one = True
            if self._fit_is_to_end:
                worker.interrupt()
            self.events.tell("fit", line=line, share=share, loss=loss, error=error)

        try:
            shape = (self.opened.data, self.opened.hidden, self._seed)
            kan = worker.run(jobs.fit, *shape, seconds=FIT_SECONDS, report=report)
            session = self._session_of(kan)
        except Exception as error:  # the page waits for an end, whatever has gone wrong
            known = isinstance(error, KanserveError)
            self._trouble = str(error) if known else f"The fit has failed: {type(error).__name__}: {error}"
            self.events.tell("fit_failed", error=self._trouble)
            return
        finally:
            worker.end()
        self._begin(session)
        self._keep()
        self.revision += 1
        self.events.tell("changed", revision=self.revision)
        with suppress(InputError):  # of several outputs, or of classes
            self.search(OWN_SEARCH_SECONDS, gives_way=True)

    def cancel_fit(self) -> None:
        """End the fit now with the best network so far, or as soon as there is one."""
        self._fit_is_to_end = True
        if (worker := self._workers.get("fit")) is not None and self.fitting and self._fit_has_one:
            worker.interrupt()

    @property
    def trouble(self) -> str:
        """Why the first fit has failed; "" if it has not."""
        return self._trouble

    @property
    def unsaved(self) -> int:
        """Steps that are not in the version published last, or opened."""
        calls = [done.step for done in self.session.history]
        same = calls[: len(self._saved)] == self._saved
        return len(calls) - len(self._saved) if same else max(len(calls), 1)

    # Looking.

    def view(self) -> PageView:
        """The state as the page shows it."""
        session = self.session
        with self._state:
            if self._view is None:  # the page asks for candidates next
                threading.Thread(target=self._prepare, daemon=True).start()
            if self._view is None or self._view.revision != self.revision:
                self._view = page_view(session, self.revision)
            return self._view

    def _prepare(self) -> None:
        """Bring up the process of looks, while the first view is made."""
        with suppress(KanserveError):  # the studio may end meanwhile
            self._workers["look"].run(jobs.prepare, self.session.kan, seconds=LOOK_SECONDS)

    def edge(self, name: str) -> EdgeCurve:
        return edge_curve(self.session, name)

    def constants(self) -> tuple[ConstantView, ...]:
        return constants_view(self.session)

    def try_constant(self, edge: str, constant: str, value: float) -> Tried:
        """How well the network would fit with another value of a constant, as it is dragged; nothing changes."""
        kan, rows = of_numbers(self.session.kan), self.session.rows
        if constant not in NAMES:
            raise InputError(f"constant is one of {', '.join(NAMES)}.")
        after = with_constants(kan, place_of(kan, edge), {constant: value})
        return Tried(measure(after, rows.held), self._rows_of(after).prediction)

    def _rows_of(self, kan: Kan) -> Rows:
        unseen = self.opened.unseen
        data = self.session.rows.data if unseen is None else in_numbers(self.session.kan, unseen)[1]
        return rows_view(kan, data)

    def predict(self, x: Sequence[float]) -> Predicted:
        """The prediction at one row of the numbers that the network sees; InputError unless each is finite."""
        return predict_row(*self._row_of(x))

    def responses(self, x: Sequence[float]) -> Responses:
        """The predictions over each input with the others as in this row; InputError unless each is finite."""
        kan, row = self._row_of(x)
        return responses_at(kan, row, self.view().nodes[0])

    def map(self, x: Sequence[float], across: int, down: int) -> dict[str, Any]:
        """The predictions over two inputs with the others as in this row. InputError for an input that is not there."""
        kan, row = self._row_of(x)
        if not (across != down and max(across, down) < len(row)):
            raise InputError(f"across and down are two of the {len(row)} inputs, got {across} and {down}.")
        u, v, values = map_at(kan, row, self.view().nodes[0], across, down)
        return {"u": u.tolist(), "v": v.tolist(), "values": values.tolist()}

    def explain(self, x: Sequence[float]) -> Explained:
        """How much each input contributes to the prediction at a row, as `predict` takes it."""
        return explain_row(*self._row_of(x), self.session.rows.data)

    def _row_of(self, x: Sequence[float]) -> tuple[Kan, NDArray[np.float64]]:
        kan = of_numbers(self.session.kan)
        if len(x) != len(kan.inputs):
            raise InputError(f"x has a number for each of the {len(kan.inputs)} inputs, got {len(x)}.")
        row = np.array(x, dtype=np.float64)
        if not np.isfinite(row).all():
            raise InputError("x has only finite numbers.")
        return kan, row

    def tiles(self) -> SmallTiles:
        return small_tiles(self.session)

    def rows(self) -> Rows:
        return self._rows_of(of_numbers(self.session.kan))

    def picture(self, theme: str) -> str:
        """The network as an SVG file in a theme, "light" or "dark"."""
        if theme not in ("light", "dark"):
            raise NotFoundError(f"The themes are light and dark, got {theme!r:.60}.")
        kan, rows = of_numbers(self.session.kan), self.session.rows
        return svg_file(scene_of(NetworkView(kan, rows.judge.x)), palette("dark" if theme == "dark" else "light"))

    def candidates(self, name: str) -> tuple[CandidateView, ...]:
        """Functions for an edge, best first, with what each would cost."""
        session = self.session
        own = [registered.name for registered in OWN.values() if registered.formula is not None]
        found: tuple[Suggestion, ...] = self._look(("candidates", f"{name}\0{own}"), jobs.candidates, name, own)
        # A step comes next. Its process starts only now, so that it took nothing from the first candidates.
        threading.Thread(target=self._workers["step"].start, daemon=True).start()
        return candidate_views(session, name, found)

    def ruler(self) -> tuple[jobs.RulerPoint, ...]:
        """The loss over edges kept, which takes long, so that it has a process of its own as long as it runs.

        Empty where the network changes meanwhile.
        """
        revision = self.revision
        try:
            found: tuple[jobs.RulerPoint, ...] = self._look(("ruler", ""), jobs.ruler, worker="ruler")
        except KanserveError:
            if revision == self.revision:
                raise
            found = ()
        finally:
            self._workers["ruler"].end_if_idle()
        return found

    def _look(self, key: tuple[str, str], job: Callable[..., Any], *more: Any, worker: str = "look") -> Any:
        """What a job of looking gives for the present network, computed once."""
        kan, revision = self.session.kan, self.revision
        with self._state:
            if key in self._seen:
                return self._seen[key]
        found = self._workers[worker].run(job, kan, *more, seconds=LOOK_SECONDS)
        with self._state:
            if revision == self.revision:
                self._seen[key] = found
        return found

    # Steps.

    def step(self, base: int, step: Any) -> PageView:
        """Take the step of this JSON data on the revision `base`."""
        taken = step_in("step", step)
        return self._change(base, lambda session: session.accept(taken, self._take(session, taken)))

    def undo(self, base: int, steps: int = 1) -> PageView:
        return self._change(base, lambda session: [session.undo() for _ in range(steps)])

    def redo(self, base: int) -> PageView:
        def again(session: Session) -> None:
            if not session.undone:
                session.redo()  # which says so
            undone = session.undone[-1]
            session.accept(undone, self._take(session, undone), redone=True)

        return self._change(base, again)

    def _take(self, session: Session, step: Step) -> Kan:
        """The network after a step, computed by a worker within a limit of time."""
        before = session.kan
        kan: Kan = self._workers["step"].run(jobs.take_step, step, before, seconds=STEP_SECONDS)
        if session.kan is not before:
            raise ConflictError(
                "The network has changed while this step was computed. Look at it again, then repeat it."
            )
        return kan

    def _change(self, base: int, change: Callable[[Session], Any]) -> PageView:
        session = self._in_turn(base)
        try:
            change(session)
        finally:
            self._turn.release()
        return self.view()

    def _in_turn(self, base: int) -> Session:
        """The session for whoever changes it now and then releases the turn; BusyError or ConflictError if none may."""
        session = self.session
        if self._search_gives_way:
            self.searching.cancel()
        if not self._turn.acquire(blocking=False):
            if self.simplifying.running:
                raise BusyError("The network is being simplified. Wait until it is done, or stop it.")
            raise BusyError("A step is being computed. Wait until it is done, then try again.")
        if base != self.revision:
            self._turn.release()
            raise ConflictError(
                f"The network has changed since: this was for revision {base}, now it is {self.revision}. Look at "
                "it again, then repeat the step."
            )
        return session

    # Simplifying.

    def simplify(self, base: int) -> None:
        """Begin to prune the network and to name its edges, as `kanserve.simplify`; the steps are taken at the end.

        Each change that is kept is told, and no other step is taken meanwhile.
        """
        session = self._in_turn(base)
        before = session.kan

        def take(found: tuple[tuple[Step, Kan], ...]) -> dict[str, int]:
            if session.kan is not before:  # a cell of the notebook has changed it
                raise ConflictError("The network has changed meanwhile. Look at it again, then simplify it.")
            for step, kan in found:
                session.accept(step, kan)
            return {"steps": len(found)}

        worker, seconds = self._workers["step"], SIMPLIFY_SECONDS
        self.simplifying.begin(
            worker, jobs.simplify_steps, before, seconds=seconds, take=take, after=self._turn.release
        )

    def write_function(self, name: str, formula: str) -> None:
        """A function of the user's, in the grammar of formulas, for candidates and steps of this run."""
        if len(OWN) >= MOST_OWN_FUNCTIONS:
            raise InputError(f"A studio has at most {MOST_OWN_FUNCTIONS} own functions; restart it for others.")
        register_function(name, formula)
        with self._state:
            self._seen = {key: found for key, found in self._seen.items() if key[0] != "candidates"}

    # Searching for formulas.

    def search(self, seconds: float, gives_way: bool = False) -> None:
        """Begin a search for simpler formulas, which tells each improvement and keeps them at its end.

        One that gives way computes when nothing else does, and ends with the first step. BusyError while one runs,
        InputError where none is possible.
        """
        kan = self.session.kan
        if kan.classes or len(kan.outputs) > 1:
            raise InputError("Formulas are searched for networks with one numeric output.")
        seconds = seconds_of(seconds)

        def take(found: tuple[jobs.FoundFormula, ...]) -> dict[str, int]:
            self.formulas = found
            return {}

        longest = 2 * seconds + GRACE_SECONDS
        worker, more = self._workers["search"], (self.session.rows.data, seconds, gives_way)

        def after() -> None:
            if gives_way:  # the process keeps its low priority
                worker.end()

        self.searching.begin(worker, jobs.search, *more, seconds=longest, take=take, after=after)
        self._search_gives_way = gives_way

    # Exporting and publishing.

    def export(self, kind: str) -> jobs.Exported:
        """The files of a format; "python" are the steps, "network" the network's own file, "latex" the formulas."""
        session, name = self.session, self.model_name
        match kind:
            case "python":
                return jobs.Exported(kind, {"steps.py": self.script().encode()}, None, None)
            case "network":
                return jobs.Exported(kind, {f"{name}.safetensors": serialization.dumps(session.kan)}, None, None)
            case "latex":
                lines = [f"{formula.name} = {formula.latex}" for formula in formulas(session.kan, strict=False)]
                return jobs.Exported(kind, {f"{name}.tex": "\n".join(lines).encode()}, None, None)
        found: jobs.Exported = self._look(("export", kind), jobs.export_format, name, kind)
        return found

    @property
    def model_name(self) -> str:
        return self.opened.name or "model"

    def script(self) -> str:
        """The steps as a Python module."""
        return self.session.as_python()

    def publish(self, base: int, root: str, name: str) -> int:
        """Publish the network as the next version of a model; where the studio has opened one, of that."""
        session = self.session
        if base != self.revision:
            raise ConflictError("The network has changed since you looked at it. Look again, then publish.")
        root, name = self.opened.repository or root, self.opened.name or name
        if not root:
            raise InputError("Say in which folder to publish.")
        check_name(name)
        rows = self.opened.unseen or (None if self.opened.drawn else session.rows.held_as_given)
        worker, more = self._workers["look"], (root, name, EXPORTERS, rows)
        version: int = worker.run(jobs.publish_network, session.kan, *more, seconds=PUBLISH_SECONDS)
        self.published, self._saved = version, [done.step for done in session.history]
        self.opened = replace(self.opened, repository=root, name=name)
        self.events.tell("published", version=version)
        return version

    def next_version(self) -> int:
        """The version that publishing would make."""
        if not self.opened.repository:
            return 1
        try:
            return repository.versions(self.opened.repository, self.model_name)[-1] + 1
        except NotFoundError:
            return 1
