"""The studio's calls: a session over HTTP, one step at a time, and everything the page draws."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import kanserve
from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.network.evaluate import edges, evaluate, jacobian
from kanserve.network.kan import equal
from kanserve.plot.palette import DARK, LIGHT
from kanserve.studio.constants_view import nice_number
from kanserve.studio.jobs import CANDIDATES
from kanserve.studio.opened_model import Opened, open_network
from kanserve.studio.page_views import MOST_TILES, page_view
from kanserve.studio.worker import Worker
from kanserve.studio.workspace import Workspace
from tests.support.blas_threads import threads_at
from tests.support.paths import ROOT
from tests.support.servers import callers
from tests.support.servers.reload_checks import eventually
from tests.support.servers.server_process import served
from tests.support.servers.studios import Running, opened_law, running
from tests.support.sessions import law, replayed

pytestmark = pytest.mark.slow  # each starts a studio and its workers


def test_the_snapshot_is_that_of_the_session_with_curves_of_97_points(studio: Running):
    kan, data = law()
    found, session = studio.get("snapshot"), Session(kan, data)
    view = found["view"]["snapshot"]
    assert view["inputs"] == ["x", "L/D"] and view["outputs"] == ["z"]
    assert [edge["name"] for edge in view["edges"]] == list(session.edges)
    assert view["loss"] == session.loss and {len(edge["curve"]) for edge in view["edges"]} == {97}
    np.testing.assert_allclose(
        [edge["curve"] for edge in view["edges"]],
        np.array([edge.curve for edge in session.snapshot(97).edges], float),
        rtol=1e-6,
    )
    assert found["unsaved"] == 0 and found["view"]["measure"]["kind"] == "RMSE"


def test_the_token_is_written_nowhere(capfd: pytest.CaptureFixture[str]):
    with running(opened_law()) as studio:
        studio.get("snapshot")
        studio.ask(f"/api/none?token={studio.studio.token}", X_Kanserve_Token="wrong")
        studio.ask("/api/steps", b"[")
    assert studio.studio.token not in "".join(capfd.readouterr())


@pytest.mark.extended
def test_steps_give_the_network_that_the_session_gives_and_undo_the_equal_one(studio: Running):
    kan, data = law()
    now = studio.step("snap", edge="x->h1", function="sin")
    wanted = Session(kan, data).snap("x->h1", "sin")
    assert equal(studio.network(), wanted.kan) and now["unsaved"] == 1
    assert now["view"]["snapshot"]["history"][0]["step"] == "snap('x->h1', 'sin')"
    assert now["view"]["python"] == wanted.as_python()
    studio.post("undo", {"base": now["view"]["revision"]})
    assert equal(studio.network(), kan)
    studio.post("redo", {"base": now["view"]["revision"] + 1})
    assert equal(studio.network(), wanted.kan)
    assert equal(replayed(wanted, kan, data), wanted.kan)


@pytest.mark.extended
def test_a_step_on_a_state_that_has_passed_is_409_and_changes_nothing(studio: Running):
    studio.step("snap", edge="x->h1", function="sin")
    before = studio.network()
    answer = studio.ask("/api/steps", {"base": 0, "step": {"kind": "zero", "edge": "x->h1"}})
    assert answer.status == 409 and "revision 0" in answer.data["error"]
    assert equal(studio.network(), before)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("step", "status"),
    [
        ({"kind": "snap", "edge": "x->h9", "function": "sin"}, 404),
        ({"kind": "snap", "edge": "x->h1", "function": "sine"}, 404),
        ({"kind": "snap", "edge": "x->h1", "function": "sin", "refit": -1}, 400),
        ({"kind": "eval", "code": "1"}, 400),
        ({"kind": "keep", "edges": "all"}, 400),
        ({"kind": "take", "formula": "1/("}, 422),
        ("zero", 400),
    ],
)
def test_a_step_that_fails_says_why_and_changes_nothing(studio: Running, step: object, status: int):
    answer = studio.ask("/api/steps", {"base": 0, "step": step})
    assert answer.status == status and len(answer.data["error"]) > 20
    assert studio.get("snapshot")["view"]["revision"] == 0


@pytest.mark.extended
def test_of_steps_made_at_once_one_is_taken(studio: Running):
    answers = []

    def step() -> None:
        answers.append(studio.ask("/api/steps", {"base": 0, "step": {"kind": "refit", "steps": 30}}).status)

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers)[0] == 200 and set(answers[1:] + answers[:1]) <= {200, 409, 503} and answers.count(200) == 1
    assert len(studio.get("snapshot")["view"]["snapshot"]["history"]) == 1


@pytest.mark.extended
def test_candidates_are_the_suggestions_with_their_curves_in_the_units_of_the_edge(studio: Running):
    kan, data = law()
    found = studio.candidates("x->h1")
    wanted = Session(kan, data).suggest("x->h1", CANDIDATES)
    assert [one["suggestion"]["function"] for one in found] == [one.function for one in wanted]
    assert found[0]["suggestion"]["function"] == "sin"
    np.testing.assert_allclose([one["suggestion"]["loss"] for one in found], [one.loss for one in wanted], rtol=1e-9)
    for name in ("x->h1", "h1->z"):
        best, curve = studio.candidates(name)[0], studio.get(f"edges/{name.replace('>', '%3E')}")
        inside = [n for n, u in enumerate(curve["u"]) if curve["low"] <= u <= curve["high"]]
        own, other = (np.array(values)[inside] for values in (curve["values"], best["curve"]))
        assert 1 - ((own - other) ** 2).mean() / own.var() > 0.99


@pytest.mark.extended
def test_the_process_of_looks_is_up_while_the_first_view_is_made_and_that_of_steps_after_candidates(monkeypatch):
    asked: list[tuple[Worker, str]] = []
    begun = threading.Event()
    run, view = Worker.run, page_view

    def noted(worker, function, *arguments, **options):
        asked.append((worker, function.__name__))
        begun.set()
        return run(worker, function, *arguments, **options)

    def waited(session, revision):
        assert begun.wait(30)
        return view(session, revision)

    monkeypatch.setattr(Worker, "run", noted)
    monkeypatch.setattr("kanserve.studio.workspace.page_view", waited)
    space = Workspace(opened_law())
    look, step = (space._workers[name] for name in ("look", "step"))
    try:
        space.view()
        space.view()
        assert asked == [(look, "prepare")] and step._process is None
        space.candidates("x->h1")
        assert asked == [(look, "prepare"), (look, "candidates")]
        eventually(lambda: step._process is not None)
    finally:
        space.close()


def test_the_view_keeps_linear_algebra_on_one_thread(monkeypatch):
    with threads_at(monkeypatch, "kanserve.studio.page_views.shares_of") as threads:
        page_view(Session(*law()), 0)
    assert threads == {1}


@pytest.mark.extended
def test_a_function_of_the_user_is_a_candidate_and_a_step_and_in_the_script(studio: Running):
    studio.post("functions", {"name": "bell", "formula": "1/(1 + x^2)"})
    found = {one["suggestion"]["function"]: one for one in studio.candidates("L/D->h1")}
    assert found["bell"]["formula"] == "1/(1 + x^2)"
    now = studio.step("snap", edge="L/D->h1", function="bell")
    assert "register_function('bell', '1/(1 + x^2)')" in now["view"]["python"]


@pytest.mark.extended
def test_the_ruler_is_what_keeping_so_many_edges_gives(studio: Running):
    kan, data = law()
    points = studio.get("ruler")["points"]
    assert [point["edges"] for point in points] == [3, 2, 1]
    for point in points[1:]:
        np.testing.assert_allclose(point["loss"], Session(kan, data).keep(point["edges"]).loss, rtol=1e-9)
    now = studio.step("keep", edges=2)
    np.testing.assert_allclose(now["view"]["snapshot"]["loss"], points[1]["loss"], rtol=1e-9)


def test_a_prediction_has_its_slopes_and_says_which_inputs_are_outside(studio: Running):
    kan, _ = law()
    row = [0.25, 5.0]
    found = studio.post("predict", {"x": row})
    np.testing.assert_allclose(found["value"], evaluate(kan, [row])[0], rtol=1e-12)
    np.testing.assert_allclose(found["gradient"], jacobian(kan, [row])[0], rtol=1e-12)
    assert found["inside"] == [True, False] and [len(values) for values in found["nodes"]] == [2, 1, 1]
    for x in ([1.0], [1.0, "2"], [1.0, None], "1", [True, False]):
        assert studio.ask("/api/predict", {"x": x}).status == 422


def test_contributions_add_up_to_the_prediction_at_the_row(studio: Running):
    kan, data = law()
    row = [0.25, 0.5]
    found = studio.post("explain", {"x": row})
    assert found["outputs"] == ["z"] and [len(line) for line in found["values"]] == [2]
    np.testing.assert_allclose(found["base"][0] + sum(found["values"][0]), evaluate(kan, [row])[0, 0], rtol=1e-9)
    wanted = kan.explain([row], data)
    np.testing.assert_allclose(found["values"], wanted.values[0], rtol=1e-9)
    assert studio.ask("/api/explain", {"x": [1.0]}).status == 422


def test_rows_are_at_most_2000_and_drawn_by_a_seed_that_is_told():
    kan, _ = law()
    x = np.random.default_rng(0).uniform(-1, 1, (3000, 2))
    with running(Opened(kan, "law", Dataset(x, kan(x), ("x", "L/D"), ("z",)))) as studio:
        first, again = studio.get("rows"), studio.get("rows")
    assert first == again and first["total"] == 3000 and len(first["x"]) == 2000 and first["seed"] == 0
    np.testing.assert_allclose(first["prediction"], kan(np.array(first["x"])), rtol=1e-12)


def test_without_data_it_opens_with_rows_of_its_own_answers():
    kan, _ = law()
    with running(Opened(kan, "law")) as studio:
        found = studio.get("snapshot")
        assert found["model"]["drawn"] and found["view"]["snapshot"]["loss"] < 1e-20
        assert found["view"]["measure"]["r2"][0] > 0.999999


@pytest.mark.extended
def test_the_lines_of_the_formula_are_the_network_and_their_constants_are_those_of_the_table(studio: Running):
    for edge, function in (("x->h1", "sin"), ("L/D->h1", "x^2"), ("h1->z", "exp")):
        studio.step("snap", edge=edge, function=function)
    view, x = studio.get("snapshot")["view"], law()[1].x[:50]
    constants = {edge["name"]: edge["constants"] for edge in view["snapshot"]["edges"]}

    def term(edge: str, function: Callable[[Any], Any], u: Any) -> Any:
        a, b, c, d = constants[edge]
        return c * function(a * u + b) + d

    (scale, offset), (last_scale, last_offset) = (layer["sums"][0] for layer in view["affine"])
    assert scale == last_scale == 1 and [layer["products"] for layer in view["affine"]] == [[[1, 0]], [[1, 0]]]
    hidden = term("x->h1", np.sin, x[:, 0]) + term("L/D->h1", np.square, x[:, 1]) + offset
    z = term("h1->z", np.exp, hidden) + last_offset
    np.testing.assert_allclose(z, evaluate(studio.network(), x)[:, 0], rtol=1e-9, atol=1e-9)
    listed = [one for one in studio.get("constants")["constants"] if one["constant"] == "d"]
    whole = constants["x->h1"][3] + constants["L/D->h1"][3] + offset
    assert [one["edge"] for one in listed][:1] == ["x->h1"]
    np.testing.assert_allclose(listed[0]["value"], whole, rtol=1e-9)
    np.testing.assert_allclose(listed[0]["value"] - listed[0]["shift"], constants["x->h1"][3], rtol=1e-9, atol=1e-12)


def test_a_constant_is_tried_without_a_step(studio: Running):
    studio.step("snap", edge="x->h1", function="sin")
    before = studio.get("snapshot")["view"]
    (a, *_) = next(edge["constants"] for edge in before["snapshot"]["edges"] if edge["name"] == "x->h1")
    body = {"edge": "x->h1", "constant": "a", "value": 1.1 * a}
    found = studio.post("constants/try", body)
    assert found["measure"]["value"] > before["measure"]["value"]
    assert len(found["prediction"]) == len(studio.get("rows")["x"])
    assert studio.get("snapshot")["view"]["revision"] == before["revision"]
    for wrong in ({"constant": "e"}, {"value": "1"}, {"edge": "none"}):
        assert studio.ask("/api/constants/try", body | wrong).status in (404, 422)


def test_responses_are_the_predictions_over_each_input(studio: Running):
    kan, _ = law()
    row = [0.25, 0.5]
    found = studio.post("responses", {"x": row})
    for i, u, values in zip(found["inputs"], found["u"], found["values"], strict=True):
        rows = np.tile(row, (len(u), 1))
        rows[:, i] = u
        np.testing.assert_allclose(values, evaluate(kan, rows), rtol=1e-6, atol=1e-9)
    assert sorted(found["inputs"]) == [0, 1] and studio.ask("/api/responses", {"x": [1.0]}).status == 422


def test_a_map_is_the_predictions_over_two_inputs(studio: Running):
    kan, _ = law()
    found = studio.post("map", {"x": [0.25, 0.5], "across": 1, "down": 0})
    u, v = np.meshgrid(found["u"], found["v"])
    given = evaluate(kan, np.column_stack([v.ravel(), u.ravel()])).reshape(*u.shape, -1)
    np.testing.assert_allclose(found["values"], given, rtol=1e-6, atol=1e-9)
    for wrong in ({"down": 1}, {"across": 2}, {"across": "x"}):
        assert studio.ask("/api/map", {"x": [0.25, 0.5], "across": 1, "down": 0} | wrong).status == 422


@pytest.mark.extended
def test_constants_have_errors_and_the_price_of_a_simpler_number(studio: Running):
    kan, data = law()
    session = Session(kan, data)
    for edge, function in (("x->h1", "sin"), ("L/D->h1", "x^2"), ("h1->z", "exp")):
        studio.step("snap", edge=edge, function=function)
        session.snap(edge, function)
    found = {(one["edge"], one["constant"]): one for one in studio.get("constants")["constants"]}
    rate = found["x->h1", "a"]
    assert abs(rate["value"] - np.pi) < 0.05 and rate["error"] < 0.05
    assert rate["nice"] in ("22/7", "25/8", "3.1", "16/5", "19/6")
    loss = session.set("x->h1", a=rate["nice_value"]).loss
    before = session.undo().loss
    np.testing.assert_allclose(rate["nice_change"], np.sqrt(loss / before) - 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "text", "near"),
    [
        (-0.8669, "-7/8", -0.875),
        (12345.6, "12000", 12000.0),
        (6.2433e-7, "6.2e-7", 6.2e-7),
        (-3.456e21, "-3.5e21", -3.5e21),
        (0.5, "", 0.5),
        (93.4286, "93", 93.0),  # not 654/7
    ],
)
def test_a_simpler_number_is_a_fraction_or_two_digits(value: float, text: str, near: float):
    assert nice_number(value) == (text, near)


def test_a_classifier_of_eight_rows_is_said_to_be_judged_on_its_training_rows(studio: Running):
    assert studio.get("snapshot")["model"]["held_apart"]
    x = np.random.default_rng(0).normal(size=(8, 2))
    data = Dataset(x, np.where(x[:, 0] > 0, "yes", "no"), classes=("no", "yes"))
    kan = replace(kanserve.create([2, 2]), classes=("no", "yes"))
    with running(Opened(kan, "classes", data)) as few:
        model = few.get("snapshot")["model"]
        assert model["held_apart"] is False and model["held_out"] == 8


@pytest.mark.extended
def test_exports_are_what_the_exporters_write_and_agree_with_the_network(studio: Running):
    for kind in ("onnx_graph", "numpy_source", "c_source", "javascript_source"):
        found = studio.get(f"export/{kind}")
        assert found["files"] and (found["largest_gap"] is None or found["largest_gap"] < 1e-9)
    assert studio.ask("/api/export/../x").status == 404
    latex = studio.get("export/latex")["files"][0]["text"]
    assert latex.startswith("z = ")


@pytest.mark.extended
def test_publishing_writes_the_next_version_of_the_model_that_was_opened(tmp_path):
    kan, data = law()
    repository.publish(tmp_path, "law", compile(kan, ["numpy_source"], name="law"))
    with running(Opened(kan, "law", data, repository=str(tmp_path), name="law", version=1)) as studio:
        now = studio.step("snap", edge="x->h1", function="sin")
        assert studio.ask("/api/publish", {"base": 0}).status == 409
        assert studio.post("publish", {"base": now["view"]["revision"]}) == {"version": 2}
        after = studio.get("snapshot")
        assert after["model"]["published"] == 2 and after["unsaved"] == 0
        assert equal(repository.read(tmp_path, "law").kan(), studio.network())


@pytest.mark.extended
def test_a_server_that_is_not_there_and_a_row_that_is_none_are_sentences(studio: Running):
    refused = studio.ask("/api/ask", {"server": "localhost:9", "row": {"x": 1.0}})
    assert refused.status == 422 and "No server answers at localhost:9" in refused.data["error"]
    assert studio.ask("/api/ask", {"server": "localhost:9", "row": [1.0]}).status == 422


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_with_tls_and_tokens_is_asked(tmp_path):
    kan, data = law()
    repository.publish(tmp_path / "models", "law", compile(kan, ["numpy_source"], name="law", data=data))
    settings = callers.rules(tmp_path, str(tmp_path / "models"), certificates=False)
    named = dict(zip(data.inputs, data.x[0].tolist(), strict=True))
    with (
        served(settings) as (_, address),
        running(Opened(kan, "law", data, repository=str(tmp_path / "models"), name="law", version=1)) as studio,
    ):
        asked = {"server": address, "row": named, "tls": True, "authority": str(tmp_path / "clients.pem")}
        token = callers.token("predict")
        assert "token" in studio.ask("/api/ask", asked).data["error"].lower()
        assert studio.ask("/api/ask", {**asked, "token": token, "authority": "/no/file.pem"}).status == 422
        answer = studio.ask("/api/ask", {**asked, "token": token})
        assert answer.status == 200 and answer.data["values"] == pytest.approx(evaluate(kan, data.x[:1])[0])


def test_a_network_that_no_repository_has_is_published_in_the_folder_that_the_page_says(tmp_path):
    with running(opened_law()) as studio:
        assert studio.get("snapshot")["model"]["repository"] == ""
        nowhere = studio.ask("/api/publish", {"base": 0})
        assert nowhere.status == 422 and "which folder" in nowhere.data["error"]
        folder = str(tmp_path / "models")
        assert studio.post("publish", {"base": 0, "repository": folder, "name": "law"}) == {"version": 1}
        model = studio.get("snapshot")["model"]
        assert (model["repository"], model["name"], model["next_version"]) == (folder, "law", 2)
        assert equal(repository.read(folder, "law").kan(), studio.network())


@pytest.mark.extended
def test_a_network_with_an_own_function_is_published_for_processes_that_register_it(tmp_path):
    kan, data = law()
    with running(Opened(kan, "law", data, repository=str(tmp_path), name="law")) as studio:
        studio.post("functions", {"name": "bump", "formula": "1/(1 + x^2)"})
        now = studio.step("snap", edge="L/D->h1", function="bump")
        assert now["own_functions"] == ["bump"]
        assert studio.post("publish", {"base": now["view"]["revision"]}) == {"version": 1}
        wanted = studio.network()
    np.save(tmp_path / "x.npy", data.x[:20])
    code = (
        "import sys, numpy as np, kanserve; folder = sys.argv[1];"
        "kanserve.register_function('bump', '1/(1 + x^2)');"
        "print(kanserve.load_model(folder + '/law/1').predict(np.load(folder + '/x.npy'))[:, 0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    np.testing.assert_allclose(json.loads(done.stdout), evaluate(wanted, data.x[:20])[:, 0], rtol=1e-9)


def test_the_picture_is_an_svg_file_in_a_theme_and_no_other_is_made(studio: Running):
    for theme, chosen in (("light", LIGHT), ("dark", DARK)):
        svg = studio.get(f"picture/{theme}")["svg"]
        assert svg.startswith("<svg") and f'fill="{chosen.paper}"' in svg and ElementTree.fromstring(svg) is not None
    assert studio.ask("/api/picture/other").status == 404


def test_a_large_network_is_sent_as_its_largest_edges_and_a_map():
    kan = kanserve.create([60, 20, 2])
    with running(Opened(kan, "large")) as studio:
        view = studio.get("snapshot")["view"]
    assert view["edges"] == 1240 and len(view["snapshot"]["edges"]) == MOST_TILES
    assert [(one["inputs"], one["sums"]) for one in view["maps"]] == [(60, 20), (20, 2)]
    assert max(max(map(max, one["cells"])) for one in view["maps"]) == pytest.approx(
        max(edge["share"] for edge in view["snapshot"]["edges"]), rel=1e-3
    )


def test_every_edge_of_a_large_network_is_sent_as_a_small_tile():
    kan = kanserve.create([60, 20, 2], seed=3)
    with running(Opened(kan, "large")) as studio:
        found = studio.get("tiles")
        rows = studio.studio.workspace.session.rows.judge.x
        name = "s_1_7_12"
        edge = studio.get(f"edges/{name}")
    places = [tuple(place) for place in found["places"]]
    assert len(places) == 1240 == len(set(places)) == len(found["shares"]) and not any(found["snapped"])
    np.testing.assert_allclose([sum(found["shares"][:1200]), sum(found["shares"][1200:])], 1, atol=1e-3)
    curves = np.frombuffer(base64.b64decode(found["curves"]), np.uint8).reshape(1240, found["points"]) / 254
    u = np.linspace(rows[:, 11].min(), rows[:, 11].max(), found["points"])
    scale, shift = kan.input_scale[11], kan.input_shift[11]
    x = np.zeros((len(u), 60))
    x[:, 11] = (u - shift) / scale
    wanted = edges(kan.layers[0], x)[:, 6, 11]
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(curves[places.index((0, 6, 11))], wanted, atol=0.004)
    assert edge["place"] == [0, 6, 11] and edge["spline"]


@pytest.mark.extended
def test_a_network_of_more_than_10000_edges_has_no_small_tiles():
    with running(Opened(kanserve.create([101, 100, 1]), "huge")) as studio:
        answer = studio.ask("/api/tiles")
    assert answer.status == 422 and "10,000" in answer.data["error"]


def test_a_repository_a_model_a_version_and_a_file_are_opened(tmp_path):
    kan, _ = law()
    for name in ("law", "law", "other"):
        repository.publish(tmp_path / "models", name, compile(kan, ["numpy_source"], name=name))
    kan.save(tmp_path / "one.safetensors")
    found = [
        open_network(str(tmp_path / "models"), "law"),
        open_network(str(tmp_path / "models" / "law")),
        open_network(str(tmp_path / "models" / "law" / "1")),
        open_network(str(tmp_path / "one.safetensors")),
    ]
    assert [one.version for one in found] == [2, 2, 1, 0] and all(equal(one.kan, kan) for one in found if one.kan)
    assert {one.repository for one in found[:3]} == {str(tmp_path / "models")}
    with pytest.raises(kanserve.errors.InputError, match="law, other"):
        open_network(str(tmp_path / "models"))
    with pytest.raises(kanserve.errors.NotFoundError):
        open_network(str(tmp_path / "none"))
