"""What was done in a studio is kept without a row, and the next studio goes on with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from kanserve.errors import FormatError, NotFoundError
from kanserve.network.kan import equal
from kanserve.studio import autosave
from kanserve.studio.autosave import Autosave
from kanserve.studio.opened_model import choose_table
from kanserve.studio.process import Studio, StudioSettings
from kanserve.studio.workspace import Workspace
from tests.support.servers.studios import PAGE, Running, answering, opened_law

pytestmark = pytest.mark.slow


def law_in(state: Path) -> Workspace:
    return Workspace(opened_law(), state=state)


def zeroed(space: Workspace) -> str:
    """An edge that is set to zero, in the session itself: no process is needed."""
    name = space.session.edges[0]
    space.session.zero(name)
    return name


def test_the_steps_on_a_network_are_offered_and_taken_again(tmp_path: Path):
    first = law_in(tmp_path)
    assert first.saved() is None
    zeroed(first)
    assert first.saved() is None, "what is done now is not offered"
    kan = first.session.kan
    first.close()
    second = law_in(tmp_path)
    about = second.saved()
    assert about is not None and about["steps"] == 1 and about["edges"] == kan.edges
    second.resume()
    assert equal(second.session.kan, kan) and len(second.session.history) == 1 and second.revision == 1
    second.session.undo()
    assert second.session.kan.edges == kan.edges + 1
    with pytest.raises(NotFoundError):
        second.resume()
    second.close()


def test_a_network_as_it_was_opened_replaces_nothing(tmp_path: Path):
    first = law_in(tmp_path)
    zeroed(first)
    first.session.undo()
    first.close()
    assert law_in(tmp_path).saved() is not None


def fitted(studio: Running) -> Any:
    while (found := studio.get("snapshot"))["phase"] == "fitting" and not found.get("trouble"):
        pass
    return found


def test_a_table_is_gone_on_with_by_its_contents_and_no_row_is_kept(tmp_path: Path):
    state = tmp_path / "state"
    text = "a,b\n" + "".join(f"{n / 7},{n * 0.123457}\n" for n in range(60))
    path = tmp_path / "rows.csv"
    path.write_text(text)

    def opened() -> Studio:
        return Studio(choose_table(), StudioSettings(browser=False, state=state), PAGE)

    with answering(opened()) as studio:
        assert studio.get("table") == {"table": None, "saved": None, "recent": []}
        assert studio.post("table", {"path": str(path)})["saved"] is None
        studio.post("table/fit", {"target": "b", "inputs": ["a"], "hidden": []})
        assert fitted(studio)["phase"] == "ready"
        studio.step("keep", edges=1)
        kan = studio.network()
    with answering(opened()) as studio:
        (recent,) = studio.get("table")["recent"]
        assert recent["target"] == "b" and recent["path"] == str(path) and recent["inputs"] == ["a"]
        found = studio.post("table", {"name": "other.csv", "text": text})["saved"]
        assert found["steps"] == 1
        studio.post("resume", {})
        assert equal(studio.network(), kan) and len(studio.get("snapshot")["view"]["snapshot"]["history"]) == 1
    for kept in state.rglob("*"):
        assert kept.is_dir() or b"0.123457" not in kept.read_bytes()


def test_only_the_latest_are_kept_and_what_is_broken_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autosave, "MOST_KEPT", 2)
    space = Workspace(opened_law())
    for key in ("a", "b", "c"):
        Autosave(tmp_path, key).keep(space.session, {"title": key})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    state = tmp_path / "c" / "state.json"
    for broken in ("{}", "no JSON", json.dumps({**json.loads(state.read_text()), "networks": ["../../x"]})):
        state.write_text(broken)
        with pytest.raises(FormatError, match="cannot be read"):
            Autosave(tmp_path, "c").recall()


def test_without_a_folder_nothing_is_kept(tmp_path: Path):
    kept = Autosave(None, "a")
    kept.keep(Workspace(opened_law()).session, {})
    assert kept.about() is None and kept.recent() == []
