"""Sessions: what cannot be done is refused with what is wrong, and hostile files with the place."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.editing.session_storage import call
from kanserve.errors import DataError, FormatError, InputError, NotFoundError
from kanserve.network.kan import equal
from kanserve.train import create
from tests.support.sessions import law, replayed

WRONG = {
    "an unknown edge": (lambda s: s.snap("x->h9", "sin"), NotFoundError, "Nearest: x->h1"),
    "an edge without an arrow": (lambda s: s.suggest("h1"), NotFoundError, "Nearest"),
    "an edge that is no text": (lambda s: s.zero((0, 0, 0)), InputError, "a text such as"),
    "a position that is not there": (lambda s: s.zero("s_1_9_1"), NotFoundError, "sum j of layer l"),
    "an unknown function": (lambda s: s.snap("x->h1", "sine"), NotFoundError, "There are: x, x"),
    "a zero edge": (lambda s: s.zero("x->h1").suggest("x->h1"), InputError, "x->h1 is zero"),
    "freeing a spline": (lambda s: s.free("x->h1"), InputError, "free spline already"),
    "constants of a spline": (lambda s: s.set("x->h1", a=1), InputError, "is a free spline"),
    "no constant": (lambda s: s.set("x->h1"), InputError, "what to set"),
    "constants that are not finite": (lambda s: s.set("x->h1", a=np.inf), InputError, "a is a finite number"),
    "constants that overflow": (lambda s: s.snap("h1->z", "exp").set("h1->z", a=1e300), InputError, "finite on"),
    "a domain that is left": (
        lambda s: s.snap("x->h1", "log").set("x->h1", b=0.0),
        InputError,
        "log of x->h1 leaves its domain on the data",
    ),
    "a text for edges": (lambda s: s.round(3, "x->h1"), InputError, "tuple or a list"),
    "no digits": (lambda s: s.round(0), InputError, "digits is a whole number from 1 to 17"),
    "half a step": (lambda s: s.refit(2.5), InputError, "steps is a whole number"),
    "a negative smoothness": (lambda s: s.refit(2, smooth=-1.0), InputError, "0 or more"),
    "an unknown name": (lambda s: s.rename("q", "r"), NotFoundError, "There are: x, L/D, z"),
    "a name that is taken": (lambda s: s.rename("x", "L/D"), InputError, "must differ"),
    "a side that is none": (lambda s: s.rename("x", "r", of="left"), InputError, "'input' or 'output'"),
    "a wrong tolerance": (lambda s: s.prune(tolerance="much"), InputError, "tolerance"),
    "functions that are none": (lambda s: s.symbolify(["sine"]), NotFoundError, "There are"),
    "no undo": (lambda s: s.undo(), InputError, "No step is left to undo"),
    "no candidates": (lambda s: s.plot_edge("x->h1", -1), InputError, "candidates"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_refused_with_what_is_wrong(case):
    session = Session(*law())
    act, error, message = WRONG[case]
    with pytest.raises(error, match=message.replace("(", r"\(")):
        act(session)


def test_wrong_data_are_refused():
    kan, data = law()
    with pytest.raises(DataError, match="2 inputs"):
        Session(kan, Dataset(data.x[:, :1], data.y))
    with pytest.raises(DataError, match="in the order x, L/D"):
        Session(kan, Dataset(data.x, data.y, ("L/D", "x")))
    with pytest.raises(DataError, match="finite"):
        Session(kan, Dataset(np.full((3, 2), np.nan), np.zeros(3)))
    text = Session(kan, data).to_json()
    with pytest.raises(FormatError, match="other data"):
        Session.from_json(text, kan, Dataset(data.x + 1, data.y))
    with pytest.raises(FormatError, match="another network"):
        Session.from_json(text, create([2, 1, 1]), data)


@cache
def honest() -> str:
    return Session(*law()).snap("x->h1", "sin").to_json()


def hostile(change: Any) -> str:
    value = json.loads(honest())
    change(value)
    return json.dumps(value)


def step(**values: Any) -> Any:
    return lambda value: value["steps"].append(values)


HOSTILE = {
    "nothing": ("", "not JSON"),
    "a list": ("[]", "not a session"),
    "another version": (hostile(lambda v: v.update(session=2)), "version 2"),
    "true for a version": (hostile(lambda v: v.update(session=True)), "version True"),
    "an unknown key": (hostile(lambda v: v.update(code="1")), "'code'"),
    "a missing key": (hostile(lambda v: v.pop("seed")), "lacks the key 'seed'"),
    "a key twice": ('{"session": 1, "session": 1}', "twice"),
    "a text for a seed": (hostile(lambda v: v.update(seed="0")), "seed must be of type int"),
    "a huge seed": (hostile(lambda v: v.update(seed=10**400)), "seed must be from 0"),
    "NaN": (hostile(step(kind="set", edge="x->h1", a=float("nan"))), "NaN"),
    "an infinity in disguise": (
        hostile(step(kind="set", edge="x->h1", a="@")).replace('"@"', "1e999"),
        r"steps\[1\]: a is a finite number",
    ),
    "an unknown kind": (hostile(step(kind="__import__")), r"steps\[1\].kind must be one of snap"),
    "no kind": (hostile(step(edge="x->h1")), r"steps\[1\] must be an object with the key 'kind'"),
    "a step that is none": (hostile(lambda v: v["steps"].append(5)), r"steps\[1\]"),
    "an argument too many": (hostile(step(kind="zero", edge="x->h1", os="rm")), r"steps\[1\] has keys of edge"),
    "an argument too few": (hostile(step(kind="snap", edge="x->h1")), r"steps\[1\] lacks the key 'function'"),
    "a number for an edge": (hostile(step(kind="zero", edge=5)), r"steps\[1\]: edge is a text"),
    "a text for a number": (hostile(step(kind="refit", steps="1")), r"steps\[1\]: steps is a whole number"),
    "true for a number": (hostile(step(kind="refit", steps=True)), r"steps\[1\]: steps is a whole number"),
    "steps without end": (hostile(step(kind="refit", steps=10**9)), r"steps\[1\]: steps is a whole number"),
    "an object for a text": (hostile(step(kind="zero", edge={"a": 1})), r"steps\[1\].edge must be a value"),
    "lists in a list": (hostile(step(kind="round", digits=3, edges=[["x"]])), r"steps\[1\].edges must be a value"),
    "half a character": (hostile(step(kind="zero", edge="\ud800")), r"steps\[1\]: edge must be Unicode"),
    "many steps": (hostile(lambda v: v["steps"].extend([{"kind": "refit"}] * 1000)), "at most 1000 steps"),
    "depth": (hostile(lambda v: v.update(steps="@")).replace('"@"', "[" * 100_000 + "]" * 100_000), "not JSON"),
    "size": (hostile(step(kind="zero", edge="x" * 5_000_000)), "4000000 bytes"),
    "a long name": (hostile(step(kind="zero", edge="x" * 40_000)), r"steps\[1\]: edge is a text of at most"),
    "an edge that is not there": (hostile(step(kind="zero", edge="q->h1")), r"steps\[1\], zero\('q->h1'\): No edge"),
    "a wrong step that was undone": (hostile(lambda v: v["undone"].append({"kind": "no"})), r"undone\[0\].kind"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_json_is_refused_with_the_place_and_nothing_is_run(case):
    text, message = HOSTILE[case]
    with pytest.raises(FormatError, match=message):
        Session.from_json(text, *law())


def test_what_is_no_text_is_refused():
    with pytest.raises(FormatError, match="to_json"):
        Session.from_json(b"{}", *law())  # type: ignore[arg-type]  # on purpose


def test_names_never_become_code():
    kan, data = law()
    evil = '\'); import os; os.abort()  # \n"""'
    session = Session(kan, data).rename("x", evil).zero(f"{evil}->h1")
    assert equal(replayed(session, kan, data), session.kan)
    assert evil not in session.as_python() and call(session._done[0].step).startswith("rename('x', ")
