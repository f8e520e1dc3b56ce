"""The calls that the page makes, whatever brings them: HTTP from a browser, or messages of a notebook's widget.

A call is a method, a path such as "edges/x->h1/candidates", and a JSON object. Its answer is a status as HTTP has it
and data for JSON; an error is a sentence.
"""

import base64
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import kanserve_exporters
from kanserve import __version__
from kanserve.data.table_files import Kind
from kanserve.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    FormatError,
    InputError,
    KanserveError,
    MissingDependencyError,
    NotFoundError,
)
from kanserve.network.own_functions import own_functions
from kanserve.studio.jobs import Exported
from kanserve.studio.page_views import plain
from kanserve.studio.shared_page import shared_page
from kanserve.studio.table_choice import example, local_table, save_upload
from kanserve.studio.workspace import Workspace

ASK_SECONDS = 5.0  # for an answer of a server
SEARCH_SECONDS = 60.0  # for a search for simpler formulas, unless the page asks for another limit

_STATUS: Mapping[type[KanserveError], int] = {
    ConflictError: 409,
    BusyError: 503,
    NotFoundError: 404,
    DeadlineError: 504,
    MissingDependencyError: 501,
    FormatError: 400,
    InputError: 422,
}
MOST_HIDDEN = 1000  # nodes of a hidden layer that the page may ask for
OWN_FORMS = ("latex", "python", "network")
Given = dict[str, Any]


class Calls:
    """The calls on one workspace; `answer` may be called from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., Any]], ...] = tuple(
            (method, re.compile(pattern, re.DOTALL), handle)
            for method, pattern, handle in (
                ("GET", "snapshot", self._snapshot),
                ("POST", "steps", self._step),
                ("POST", "undo", self._undo),
                ("POST", "redo", self._redo),
                ("GET", "edges/(.+)/candidates", self._candidates),
                ("GET", "edges/(.+)", self._edge),
                ("GET", "constants", self._constants),
                ("POST", "constants/try", self._try_constant),
                ("POST", "functions", self._function),
                ("GET", "ruler", self._ruler),
                ("GET", "pareto", self._pareto),
                ("POST", "search", self._search),
                ("POST", "search/cancel", self._cancel_search),
                ("POST", "fit/cancel", self._cancel_fit),
                ("GET", "table", self._table),
                ("POST", "table", self._open_table),
                ("POST", "table/copies", self._copies),
                ("POST", "table/fit", self._choose),
                ("POST", "table/again", self._choose_again),
                ("POST", "resume", self._resume),
                ("POST", "simplify", self._simplify),
                ("POST", "simplify/cancel", self._cancel_simplify),
                ("POST", "predict", self._predict),
                ("POST", "responses", self._responses),
                ("POST", "map", self._map),
                ("POST", "explain", self._explain),
                ("GET", "rows", self._rows),
                ("GET", "tiles", self._tiles),
                ("GET", "picture/([^/]+)", self._picture),
                ("GET", "export/([^/]+)", self._export),
                ("GET", "share", self._share),
                ("POST", "publish", self._publish),
                ("POST", "ask", self._ask),
            )
        )

    def answer(self, method: str, path: str, given: Given) -> tuple[int, Any]:
        """The status and the data of a call; `given` is the object of its body, empty without one."""
        matched = [(verb, found, handle) for verb, form, handle in self._routes if (found := form.fullmatch(path))]
        for verb, found, handle in matched:
            if verb == ("GET" if method == "HEAD" else method):
                try:
                    return 200, plain(handle(given, *found.groups()))
                except KanserveError as error:
                    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
                    return status, {"error": str(error), "code": type(error).__name__}
        return 405 if matched else 404, {"error": "There is nothing at this address.", "code": "missing"}

    def _snapshot(self, given: Given) -> Any:
        space = self._space
        opened = space.opened
        model = {
            "title": opened.title,
            "name": opened.name,
            "version": opened.version,
            "next_version": space.next_version(),
            "published": space.published,
            "served": space.served,
            "repository": opened.repository,
            "drawn": opened.drawn,
            "held_out": 0 if space.fitting else len(space.session.rows.held),
            "held_apart": not space.fitting and space.session.rows.held is not space.session.rows.judge.learn,
            "total_rows": len(opened.data) if opened.data is not None else 0,
            "unseen_rows": len(opened.unseen) if opened.unseen is not None else 0,
            "classes": [] if space.fitting else list(space.session.kan.classes),
            "formats": list(kanserve_exporters.names()),
            "load": opened.load,
            "has_table": opened.table is not None,
            "kanserve": __version__,
        }
        if space.choosing:
            return {"phase": "choosing", "model": model, "trouble": space.trouble}
        if space.fitting:
            return {"phase": "fitting", "model": model, "trouble": space.trouble}
        ready = {
            "unsaved": space.unsaved,
            "simplifying": space.simplifying.running,
            "own_functions": own_functions(space.session.kan),
            "saved": space.saved(),
            "view": space.view(),
        }
        return {"phase": "ready", "model": model, **ready}

    def _step(self, given: Given) -> Any:
        self._space.step(_whole(given, "base"), given.get("step"))
        return self._snapshot({})

    def _undo(self, given: Given) -> Any:
        self._space.undo(_whole(given, "base"), _whole(given, "steps", 1))
        return self._snapshot({})

    def _redo(self, given: Given) -> Any:
        self._space.redo(_whole(given, "base"))
        return self._snapshot({})

    def _edge(self, given: Given, name: str) -> Any:
        return self._space.edge(name)

    def _candidates(self, given: Given, name: str) -> Any:
        return {"candidates": self._space.candidates(name)}

    def _constants(self, given: Given) -> Any:
        return {"constants": self._space.constants()}

    def _try_constant(self, given: Given) -> Any:
        value = given.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError("value must be a number.")
        return self._space.try_constant(_text(given, "edge"), _text(given, "constant"), float(value))

    def _function(self, given: Given) -> Any:
        self._space.write_function(_text(given, "name"), _text(given, "formula"))
        return {"name": given["name"]}

    def _ruler(self, given: Given) -> Any:
        return {"points": self._space.ruler()}

    def _pareto(self, given: Given) -> Any:
        return {"running": self._space.searching.running, "formulas": self._space.formulas}

    def _search(self, given: Given) -> Any:
        seconds = given.get("seconds", SEARCH_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InputError("seconds must be a number.")
        self._space.search(seconds)
        return {"running": True}

    def _cancel_search(self, given: Given) -> Any:
        self._space.searching.cancel()
        return {}

    def _cancel_fit(self, given: Given) -> Any:
        self._space.cancel_fit()
        return {}

    def _table(self, given: Given) -> Any:
        return {"table": self._space.table(), "saved": self._space.saved(), "recent": self._space.kept.recent()}

    def _open_table(self, given: Given) -> Any:
        """A table by its text, by its path on this machine, or an example."""
        if "text" in given:
            path = save_upload(self._space.folder, _text(given, "name"), _text(given, "text"))
        elif "example" in given:
            path = example(self._space.folder, _text(given, "example"))
        else:
            path = local_table(_text(given, "path"))
        return {"table": self._space.open_table(path), "saved": self._space.saved()}

    def _copies(self, given: Given) -> Any:
        return {"copies": self._space.copies(_text(given, "target"))}

    def _choose(self, given: Given) -> Any:
        inputs, kind, hidden = given.get("inputs"), given.get("kind", "auto"), given.get("hidden", [])
        if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs):
            raise InputError("inputs must be a list of texts.")
        if kind not in get_args(Kind):
            raise InputError(f"kind is one of {', '.join(get_args(Kind))}.")
        if not isinstance(hidden, list) or not all(type(n) is int and 1 <= n <= MOST_HIDDEN for n in hidden):
            raise InputError(f"hidden must be a list of whole numbers from 1 to {MOST_HIDDEN}.")
        return {"left_out": self._space.choose(_text(given, "target"), inputs, kind, hidden)}

    def _choose_again(self, given: Given) -> Any:
        self._space.choose_again()
        return {}

    def _resume(self, given: Given) -> Any:
        self._space.resume()
        return {}

    def _simplify(self, given: Given) -> Any:
        self._space.simplify(_whole(given, "base"))
        return {}

    def _cancel_simplify(self, given: Given) -> Any:
        self._space.simplifying.cancel()
        return {}

    def _predict(self, given: Given) -> Any:
        return self._space.predict(_row(given))

    def _responses(self, given: Given) -> Any:
        return self._space.responses(_row(given))

    def _map(self, given: Given) -> Any:
        return self._space.map(_row(given), _whole(given, "across"), _whole(given, "down"))

    def _explain(self, given: Given) -> Any:
        return self._space.explain(_row(given))

    def _rows(self, given: Given) -> Any:
        return self._space.rows()

    def _tiles(self, given: Given) -> Any:
        return self._space.tiles()

    def _picture(self, given: Given, theme: str) -> Any:
        return {"svg": self._space.picture(theme)}

    def _export(self, given: Given, kind: str) -> Any:
        if kind not in (*OWN_FORMS, *kanserve_exporters.names()):
            raise NotFoundError(
                f"Unknown format {kind!r:.80}; there are {', '.join((*OWN_FORMS, *kanserve_exporters.names()))}."
            )
        return _files(self._space.export(kind))

    def _share(self, given: Given) -> Any:
        return {"html": self.shared_page()}

    def shared_page(self) -> str:
        """The present network as one HTML file."""
        return shared_page(self._space, plain(self._snapshot({})))

    def _publish(self, given: Given) -> Any:
        root, name = (_text(given, key) if key in given else "" for key in ("repository", "name"))
        return {"version": self._space.publish(_whole(given, "base"), root, name)}

    def _ask(self, given: Given) -> Any:
        row = given.get("row")
        if not isinstance(row, dict) or not all(isinstance(v, str | int | float | None) for v in row.values()):
            raise InputError("row must be an object with a number, a text or null for each input.")
        token, authority = (_text(given, key).strip() if key in given else "" for key in ("token", "authority"))
        tls: bool | str = authority or given.get("tls") is True
        return ask_server(_text(given, "server"), self._space.model_name, row, tls, token)


def _row(given: Given) -> list[float]:
    x = given.get("x")
    if not isinstance(x, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in x):
        raise InputError("x must be a list of numbers, one for each input.")
    return x


def _whole(given: Given, key: str, otherwise: int | None = None) -> int:
    value = given.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{key} must be a whole number of 0 or more.")
    return value


def _text(given: Given, key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise InputError(f"{key} must be a text.")
    return value


def _files(exported: Exported) -> Given:
    """An export for the page: texts as they are, everything else in base64."""
    files = []
    for path, data in sorted(exported.files.items()):
        try:
            text = data.decode() if b"\0" not in data else None
        except UnicodeDecodeError:
            text = None
        found = {"path": path, "bytes": len(data), "text": text}
        files.append(found if text is not None else {**found, "base64": base64.b64encode(data).decode()})
    return {
        "format": exported.format,
        "files": files,
        "largest_gap": exported.largest_gap,
        "microseconds": exported.microseconds,
        "note": exported.note,
    }


@dataclass(frozen=True)
class Asked:
    """What a server has answered to one row: its version, the outputs or probabilities, the time of a second call."""

    version: int
    values: tuple[float, ...]
    milliseconds: float


def ask_server(address: str, name: str, row: Mapping[str, Any], tls: bool | str = False, token: str = "") -> Asked:
    """What a server answers to a row, given as its clients give it; an error of it is told. `tls`: whether it has TLS,
    or the file of the authority that signed its certificate."""
    from kanserve.client import Client

    columns = {column: [value] for column, value in row.items()}
    with Client(address, timeout=ASK_SECONDS, tls=tls, token=token or None) as client:
        answer = client.infer(name, columns)
        begun = time.perf_counter()
        client.infer(name, columns)
        milliseconds = 1000 * (time.perf_counter() - begun)
    values = answer.values if answer.probabilities is None else answer.probabilities
    return Asked(answer.version, tuple(values[0].tolist()), milliseconds)
