"""Networks of other libraries from their files, by the function and by the command: reading, detection, verifying."""

import importlib.util
import io
import json
import re
import sys
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import kanserve
from kanserve import importers
from kanserve.errors import CheckpointError, InputError, MissingDependencyError
from kanserve.importers import detection, verification
from kanserve.importers.checkpoint_files import read
from kanserve.importers.conversion import Conversion, Options
from kanserve.importers.pykan_yaml import Opaque
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal, make_layer
from tests.support import command_line
from tests.support.peers import library_checkpoints


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return partial(command_line.run, monkeypatch, capsys)


@pytest.mark.parametrize("given", ["model/0.1", "model/0.1_config.yml", "model/0.1_state", "model/0.1_cache_data"])
def test_a_checkpoint_of_pykan_is_found_by_its_name_and_by_each_of_its_files(tmp_path, given):
    library_checkpoints.save_pykan(tmp_path / "model/0.1")
    found = kanserve.from_checkpoint(tmp_path / given)
    assert found.library == "pykan" and found.kan.shape == (2, 1)
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    assert np.abs(evaluate(found.kan, x)[:, 0] - library_checkpoints.law(x)).max() < 1e-6


def test_a_folder_of_the_same_name_does_not_hide_a_checkpoint(tmp_path):
    library_checkpoints.save_pykan(tmp_path / "model")
    (tmp_path / "model").mkdir()
    assert kanserve.from_pykan(tmp_path / "model").shape == (2, 1)


def test_settings_with_python_objects_are_read_and_nothing_is_made_of_them(tmp_path):
    library_checkpoints.save_pykan(
        tmp_path / "pruned", base="!!python/object:torch.nn.modules.activation.SiLU {training: true}"
    )
    said = read(tmp_path / "pruned").settings
    assert said["base_fun_name"] == Opaque("python/object:torch.nn.modules.activation.SiLU")
    assert said["grid_range"] == [-1, 1] and said["symbolic.funs_name.0"] == [["sin", "x^2"]]
    assert kanserve.from_pykan(tmp_path / "pruned").shape == (2, 1)


@pytest.mark.parametrize("library", importers.LIBRARIES)
def test_names_and_shapes_say_whose_a_checkpoint_is(library):
    arrays = library_checkpoints.ARRAYS[library]()
    found = kanserve.from_checkpoint(arrays)
    assert found.library == library and len(found.kan.inputs) == 2
    named = getattr(kanserve, f"from_{library.replace('-', '_')}")
    assert equal(named(arrays), found.kan)


@pytest.mark.parametrize("library", importers.LIBRARIES)
def test_another_library_than_the_one_named_is_refused_and_said_which_it_looks_like(library):
    other = "inkan" if library != "inkan" else "jaxkan"
    with pytest.raises(CheckpointError, match=f"not a checkpoint of {other}; it looks like one of {library}"):
        kanserve.from_checkpoint(library_checkpoints.ARRAYS[library](), other)


def test_every_kind_of_file_gives_the_same_network(tmp_path):
    arrays = library_checkpoints.ARRAYS["inkan"]()
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    wanted = kanserve.from_inkan(state)
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    (tmp_path / "no_ending").write_bytes((tmp_path / "new.pt").read_bytes())
    (tmp_path / "link").symlink_to("a.npz")
    for path in tmp_path.iterdir():
        assert equal(kanserve.from_checkpoint(str(path)).kan, wanted), path.name


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "kan.", "module._orig_mod."])
def test_what_training_scripts_and_wrappers_put_around_a_state_is_taken_off(tmp_path, key, prefix):
    state = {name: torch.tensor(array) for name, array in library_checkpoints.ARRAYS["efficient-kan"]().items()}
    around = {"epoch": 3, key: {prefix + name: array for name, array in state.items()}, "optimizer": {"lr": 0.1}}
    torch.save(around, tmp_path / "last.ckpt")
    assert equal(kanserve.from_efficient_kan(tmp_path / "last.ckpt"), kanserve.from_efficient_kan(state))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_is_widened_exactly(tmp_path, kind, suffix):
    state = {name: torch.tensor(array).to(kind) for name, array in library_checkpoints.ARRAYS["jaxkan"]().items()}
    path = tmp_path / f"a{suffix}"
    (torch.save if suffix == ".pt" else safetensors.torch.save_file)(state, path)
    found = read(path).arrays
    assert all(array.dtype == np.float32 for array in found.values())
    assert all(np.array_equal(found[name], array.float().numpy()) for name, array in state.items())


class Layers(torch.nn.Module):
    """A model whose state_dict is that of a library, as a copy of its file in somebody's project would have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Module()])
        for name, array in library_checkpoints.ARRAYS["efficient-kan"]().items():
            self.layers[0].register_buffer(name.removeprefix("layers.0."), torch.tensor(array))
        self.layers[0].base_activation = torch.nn.SiLU()


@pytest.mark.parametrize("wrapped", [lambda one: one, torch.nn.DataParallel])
def test_a_live_model_is_taken_as_it_is(wrapped):
    kan = kanserve.from_checkpoint(wrapped(Layers())).kan
    assert equal(kan, kanserve.from_efficient_kan(library_checkpoints.ARRAYS["efficient-kan"]()))


def test_what_matches_no_library_is_named_by_its_arrays():
    with pytest.raises(CheckpointError, match=r"any of pykan, .*its arrays are '0.weight', '0.bias'\.$"):
        kanserve.from_checkpoint(torch.nn.Sequential(torch.nn.Linear(2, 1)))
    with pytest.raises(InputError, match="got int"):
        kanserve.from_checkpoint(3)


def test_a_network_of_kanserve_s_own_is_sent_on(tmp_path):
    kan = Kan((make_layer(functions=[["sin"]]),))
    serialization.save(kan, tmp_path / "kan.safetensors")
    with pytest.raises(CheckpointError, match="kanserve's own already: use it as it is"):
        kanserve.from_checkpoint(tmp_path / "kan.safetensors")
    with pytest.raises(CheckpointError, match=r"kanserve\.from_torch reads it"):
        kanserve.from_checkpoint(kanserve.to_torch(kan).state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": "relu"}, "base is one of silu, identity, zero; got 'relu'"),
        ({"denominator": 0}, "denominator is a number above 0; got 0"),
        ({"denominator": float("nan")}, "denominator is a number above 0"),
        ({"tolerance": -1}, "tolerance is a number above 0 and below 1; got -1"),
        ({"tolerance": "a"}, "tolerance is a number above 0 and below 1; got 'a'"),
        ({"inputs": "ab"}, "inputs are names"),
        ({"inputs": ["a", "a"]}, "must differ"),
        ({"outputs": [1]}, "outputs are names"),
        ({"inputs": ["a"]}, "2 inputs need as many names, got 1"),
        ({"grid": 3}, "outputs, parameters, squash, tolerance; got grid"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        kanserve.from_checkpoint(library_checkpoints.ARRAYS["inkan"](), **options)


def test_an_unknown_library_is_refused():
    with pytest.raises(InputError, match=r"library is one of pykan, .*; got 'kan'"):
        kanserve.from_checkpoint({}, "kan")


def test_the_command_writes_the_network_and_says_what_to_do_next(tmp_path, command):
    library_checkpoints.save_pykan(tmp_path / "model/0.1")
    names = ["--input", "mass", "--input", "speed", "--output", "energy"]
    code, out, err = command("import", "model/0.1", *names)
    assert (code, err) == (0, "") and "next: kanserve publish kan.safetensors models --name model" in out
    kan = serialization.load(tmp_path / "kan.safetensors")
    assert [variable.name for variable in (*kan.inputs, *kan.outputs)] == ["mass", "speed", "energy"]
    assert equal(kan, kanserve.from_pykan("model/0.1", inputs=["mass", "speed"], outputs=["energy"]))


def test_notes_go_to_standard_error_and_into_the_json(tmp_path, command):
    torch.save(
        {name: torch.tensor(array) for name, array in library_checkpoints.ARRAYS["inkan"]().items()}, tmp_path / "a.pt"
    )
    code, _, err = command("import", "a.pt")
    assert code == 0 and "activation" in err
    code, out, err = command("import", "a.pt", "--force", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "") and "activation" in facts["notes"][0]
    assert (facts["library"], facts["shape"], facts["file"]) == ("inkan", [2, 1], "kan.safetensors")
    assert command("import", "a.pt", "--force", "--quiet")[2] == ""
    assert command("import", "a.pt", "--force", "--base", "silu")[2] == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a.pt --from keras", "'keras' is not one of 'pykan', 'efficient-kan'"),
        ("a.pt --from jaxkan", "a.pt is not a checkpoint of jaxkan; it looks like one of inkan"),
        ("a.pt --base relu", "'relu' is not one of 'silu', 'identity', 'zero'"),
        ("a.pt --tolerance 0", "tolerance is a number above 0 and below 1; got 0.0"),
        ("a.pt --denominator -1", "denominator is a number above 0; got -1.0"),
        ("a.pt --input a", "2 inputs need as many names, got 1"),
        ("a.pt --out a.pt --force", "a.pt is an input of this command"),
        ("model --out model_state --force", "model_state is an input of this command"),
        ("a.pt --out there", "there is there already; choose another name or give --force"),
        ("absent", "does not exist"),
        (".", "'.' is a folder; give a file"),
        (".", "Checkpoints of pykan there are 'model'."),
        ("modl", "The file 'modl' does not exist. Checkpoints of pykan there are 'model'."),
    ],
)
def test_what_the_command_cannot_do_is_one_line_and_exit_code_2(tmp_path, command, words, said):
    torch.save(
        {name: torch.tensor(array) for name, array in library_checkpoints.ARRAYS["inkan"]().items()}, tmp_path / "a.pt"
    )
    library_checkpoints.save_pykan(tmp_path / "model")
    (tmp_path / "there").write_text("mine")
    code, out, err = command("import", *words.split())
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert not (tmp_path / "kan.safetensors").exists() and (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("package", ["torch", "yaml"])
def test_a_missing_package_is_named_with_its_extra(tmp_path, command, monkeypatch, package):
    library_checkpoints.save_pykan(tmp_path / "model")
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = command("import", "model")
    assert code == 2 and "pip install 'kanserve[import]'" in err


def test_arrays_of_numpy_need_no_torch(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **library_checkpoints.ARRAYS["jaxkan"]())
    monkeypatch.setitem(sys.modules, "torch", None)
    assert kanserve.from_jaxkan(tmp_path / "a.npz").shape == (2, 1)


@pytest.fixture
def inkan(monkeypatch):
    """inkan's layer, written again from its formula, where the library itself may not be installed."""
    module = ModuleType("inkan")
    module.KANLayer = library_checkpoints.KANLayer  # type: ignore[attr-defined] # a stand-in has what it is given
    monkeypatch.setitem(sys.modules, "inkan", module)


@pytest.mark.parametrize(("kind", "bound"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_verifying_compares_random_rows_and_edge_rows_with_the_other_library(tmp_path, inkan, command, kind, bound):
    np.savez(tmp_path / "a.npz", **library_checkpoints.ARRAYS["inkan"](kind))
    checkpoint = read(tmp_path / "a.npz")
    found = verification.compare(checkpoint, importers.convert(checkpoint, "", Options()))
    assert found.agrees and found.difference < found.bound == bound and found.only_one == 0
    assert found.random == 1000 and found.edge > 100
    code, out, _ = command("import", "a.npz", "--verify", "--json")
    assert code == 0 and json.loads(out)["largest difference"] == found.difference
    assert "beside inkan" in command("import", "a.npz", "--verify", "--force")[1]


def test_a_network_that_differs_is_refused_with_the_figure(tmp_path, inkan, command, monkeypatch):
    arrays = library_checkpoints.ARRAYS["inkan"]()
    checkpoint = detection.checkpoint_of(arrays)
    arrays["layers.0.weight"] = arrays["layers.0.weight"] * 1.001
    wrong: Conversion = kanserve.from_checkpoint(arrays)
    found = verification.compare(checkpoint, wrong)
    assert not found.agrees and 5e-4 < found.difference < 2e-3
    with pytest.raises(CheckpointError, match=r"differs .* by 0\.00\d+ of the largest output .* at most 1e-05"):
        verification.require(found)
    np.savez(tmp_path / "a.npz", **library_checkpoints.ARRAYS["inkan"]())
    monkeypatch.setattr(library_checkpoints.KANLayer, "scale", 1.001)
    code, out, err = command("import", "a.npz", "--verify")
    assert (code, out) == (2, "") and "differs" in err and not (tmp_path / "kan.safetensors").exists()


def test_edge_rows_are_on_the_knots_beside_them_and_outside():
    kan = kanserve.from_inkan(library_checkpoints.ARRAYS["inkan"]())
    rows, knots = verification.edge_rows(kan, single=True), kan.layers[0].knots
    assert np.isin(knots[0].astype(np.float32), rows[:, 0]).all()
    assert np.isin(np.nextafter(knots[0].astype(np.float32), np.float32(np.inf)), rows[:, 0]).all()
    assert rows[:, 0].min() < knots[0, 3] - 1.9 and rows[:, 0].max() > knots[0, -4] + 1.9


def test_verifying_needs_the_library(tmp_path, command, monkeypatch):
    library_checkpoints.save_pykan(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "kan", None)
    code, out, err = command("import", "model", "--verify")
    assert (code, out) == (2, "") and "pip install pykan" in err and not (tmp_path / "kan.safetensors").exists()
    with pytest.raises(MissingDependencyError, match="pykan"):
        checkpoint = read(tmp_path / "model")
        verification.compare(checkpoint, importers.convert(checkpoint, "", Options()))


def test_verifying_runs_pykan_itself(tmp_path, command):
    pytest.importorskip("kan")
    library_checkpoints.save_pykan(tmp_path / "model", splines=True)
    code, out, err = command("import", "model", "--verify", "--json")
    assert code == 0 and json.loads(out)["largest difference"] < 1e-6, err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kan.safetensors",
        "model_cache_data",
        "model_config.yml",
        "model_state",
    ]


def test_the_command_takes_the_basis_of_polynomials_and_its_constants(tmp_path, command):
    arrays: dict[str, Any] = {"0.coeffs": np.random.default_rng(0).normal(0, 1, (2, 1, 4))}
    np.savez(tmp_path / "a.npz", **arrays)
    options = ["--basis", "jacobi", "--parameter", "0.5", "--parameter", "-0.25", "--squash", "clamp"]
    code, out, err = command("import", "a.npz", *options, "--json")
    assert code == 0 and json.loads(out)["library"] == "polynomial-kan" and json.loads(out)["notes"] == [], err
    wanted = kanserve.from_polynomial_kan(arrays, basis="jacobi", parameters=[0.5, -0.25], squash="clamp")
    assert equal(serialization.load(tmp_path / "kan.safetensors"), wanted)


@pytest.mark.parametrize("library", ["polynomial-kan", "fourier-kan", "rational-kan"])
def test_a_kind_of_layer_has_no_library_to_verify_with(library, tmp_path, command):
    np.savez(tmp_path / "a.npz", **library_checkpoints.ARRAYS[library]())
    code, _, err = command("import", "a.npz", "--verify")
    assert code == 2 and f"{library} is a kind of layer, of no package" in err


def test_a_pole_at_which_rounding_decides_is_no_disagreement(tmp_path, command):
    pytest.importorskip("kan")
    library_checkpoints.save_pykan(tmp_path / "model", functions=("1/x^5", "tan"))
    code, out, err = command("import", "model", "--verify", "--json")
    assert code == 0 and json.loads(out)["largest difference"] < 1e-5, err


@pytest.mark.parametrize("library", ["efficient-kan", "fast-kan"])
def test_what_is_on_no_index_is_not_to_be_installed_from_one(library, tmp_path, command):
    if importlib.util.find_spec(library.replace("-", "_" if library.startswith("e") else "")):
        pytest.skip(f"{library} is there")
    np.savez(tmp_path / "a.npz", **library_checkpoints.ARRAYS[library]())
    code, _, err = command("import", "a.npz", "--verify")
    assert code == 2 and f"{library} is on no package index" in err and "pip install" not in err


def test_a_state_in_memory_is_read_like_its_file():
    arrays = library_checkpoints.ARRAYS["fast-kan"]()
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    assert equal(kanserve.from_fast_kan(arrays), kanserve.from_fast_kan(dict(np.load(io.BytesIO(stream.getvalue())))))


@pytest.mark.parametrize("library", importers.LIBRARIES)
def test_a_folder_is_refused_by_every_importer(library, tmp_path):
    with pytest.raises(CheckpointError, match="is a folder; give a file"):
        importers.from_checkpoint(tmp_path, library)
