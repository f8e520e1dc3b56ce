"""Networks of pykan that are broken, older, or no more what they say: refused in one line, with what is wrong where."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kanserve.errors import CheckpointError
from kanserve.importers import pykan
from kanserve.importers.conversion import Checkpoint, Options
from kanserve.network.kan import equal
from tests.support.peers.pykan_formulas import fixed, stored


def refusal(one: Checkpoint) -> str:
    with pytest.raises(CheckpointError) as raised:
        pykan.convert(one, Options())
    assert "\n" not in str(raised.value) and str(raised.value).startswith("m: ")
    return str(raised.value)


@pytest.mark.parametrize("name", ["act_fun.1.coef", "act_fun.0.grid", "symbolic_fun.1.affine", "node_bias_0"])
def test_nan_is_refused_with_its_array_and_place(name):
    one = stored((2, 2), (2, 1))
    one.arrays[name].flat[1] = np.nan
    assert f"{name} holds nan at" in refusal(one)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("act_fun.1.grid", "layer 2 is not whole, without act_fun.1.grid"),
        ("symbolic_fun.0.mask", "layer 1 is not whole, without symbolic_fun.0.mask"),
        ("subnode_bias_1", "expand_depth"),
        ("act_fun.1.coef", "act_fun.1.coef is missing"),
    ],
)
def test_what_is_missing_is_named(name, said):
    one = stored((2, 2), (2, 2), (2, 1))
    assert said in refusal(Checkpoint({key: array for key, array in one.arrays.items() if key != name}, {}, "m"))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("act_fun.0.coef", (2, 2), "(inputs, outputs, G + k)"),
        ("act_fun.0.coef", (2, 0, 6), "is empty: where all nodes were pruned"),
        ("act_fun.0.grid", (2, 7), "make no spline"),
        ("act_fun.0.grid", (3, 10), "(2, G + 2k + 1)"),
        ("act_fun.0.mask", (2, 3), "(2, 2)"),
        ("symbolic_fun.0.affine", (2, 2, 3), "(2, 2, 4)"),
        ("node_scale_0", (3,), "(2,)"),
        ("node_bias_0", (3,), "node_scale_0"),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_named_with_both_shapes(name, shape, said):
    one = stored((2, 2), (2, 1))
    assert said in refusal(Checkpoint({**one.arrays, name: np.zeros(shape)}, one.settings, "m"))


def test_layers_that_do_not_follow_one_another_are_refused():
    assert "layer 1 has 3 nodes (node_bias_0), layer 2 takes 2 inputs" in refusal(stored((2, 3), (2, 1)))


def test_knots_that_decrease_are_refused_with_their_input():
    one = stored((2, 2), (2, 1))
    one.arrays["act_fun.1.grid"][1, 3:5] = one.arrays["act_fun.1.grid"][1, [4, 3]]
    assert "layer 2, input 2: its knots decrease at number 5" in refusal(one)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": [[2, 0], [2, 0]]}, "it is 2 rows of nodes deep (width), its arrays that it is 3"),
        (
            {"width": [[3, 0], [2, 0], [1, 0]]},
            "the network takes 3 inputs (width), its arrays that the network takes 2",
        ),
        ({"width": [2, [1, 2], 1]}, "layer 1 has 3 nodes (width), its arrays that layer 1 has 2 nodes"),
        ({"k": 2}, "layer 1 has order 2 (k), its arrays that layer 1 has order 3"),
        ({"k": [3, 3, 3]}, "it has 3 layers (k), its arrays that it has 2"),
        ({"grid": [3, 5]}, "layer 2 has 5 intervals (grid), its arrays that layer 2 has 4 intervals"),
        ({"symbolic.funs_name.1": [["0"]]}, "layer 2 (symbolic.funs_name.1) must be 1 lists of 2 names"),
        ({"symbolic.funs_name.0": "sin"}, "layer 1 (symbolic.funs_name.0) must be 2 lists of 2 names"),
    ],
)
def test_settings_that_say_another_network_than_the_arrays_are_refused(settings, said):
    assert said in refusal(stored((2, 2), (2, 1), **settings))


@pytest.mark.parametrize(
    ("arity", "said"),
    [
        (3, "products of 3 (mult_arity) do not make that"),
        (1, "give the file of the settings too"),
        ([[], [1, 3], []], "do not make that"),
        ([[], [2], []], "do not make that"),
        ([[]], "give the file of the settings too"),
        ("two", "give the file of the settings too"),
        ([[], [4], []], "layer 1 has 2 sums and 1 products by mult_arity and the arrays, 1 and 2 by width"),
    ],
)
def test_products_that_do_not_add_up_to_the_sums_are_refused(arity, said):
    one = stored((2, 6, 3), (3, 1), mult_arity=arity, width=[[2, 0], [1, 2], [1, 0]])
    assert said in refusal(one) and "layer 1" in refusal(one)


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, True, 2.5, "x", [], [[]], {}, ["x"], [{}, None], SimpleNamespace(tag="a")])
@pytest.mark.parametrize(
    "name",
    ["width", "k", "grid", "mult_arity", "base_fun_name", "symbolic.funs_name.0", "symbolic_enabled", "input_id"],
)
def test_settings_of_any_other_kind_are_refused_or_not_needed(name, value):
    for checkpoint in (stored((2, 2), (2, 1)), fixed(stored((2, 3, 2), (2, 1)), 0, 1, 0, "sin")):
        try:
            found = pykan.convert(Checkpoint(checkpoint.arrays, {**checkpoint.settings, name: value}, "m"), Options())
        except CheckpointError as error:
            assert str(error).startswith("m: ") and "\n" not in str(error)
        else:
            assert equal(found.kan, pykan.convert(checkpoint, Options()).kan)


def test_older_formats_are_known_and_refused_with_their_version():
    arrays = {
        "act_fun.0.coef": np.zeros((6, 8)),
        "act_fun.0.grid": np.zeros((6, 6)),
        "biases.0.weight": np.zeros((1, 3)),
    }
    assert pykan.matches(Checkpoint(arrays, {}, "m"))
    assert "written by pykan 0.0" in refusal(Checkpoint(arrays, {}, "m"))
    assert "written by pykan 0.1" in refusal(Checkpoint(arrays | {"act_fun.0.coef": np.zeros((2, 3, 8))}, {}, "m"))


def test_factors_whose_product_is_no_number_are_refused_without_a_warning():
    one = stored((2, 2), (2, 1))
    one.arrays["act_fun.1.mask"][1, 0], one.arrays["act_fun.1.coef"][1] = 1e200, 1e200
    assert "layer 2: coefficients must be finite" in refusal(one)


def test_arrays_of_others_beside_it_are_left_out_with_a_note():
    one = stored((2, 2), (2, 1))
    found = pykan.convert(Checkpoint({**one.arrays, "head.weight": np.ones(2)}, one.settings, "m"), Options())
    assert found.notes == ("arrays that are not of a MultKAN were left out: head.weight",)
    assert not pykan.matches(Checkpoint({"layers.0.spline_weight": np.ones(2)}))


def model(one: Checkpoint, functions: dict[str, Callable[[Any], Any]], dtype: str = "float64", **said: Any) -> Any:
    """What pykan's live model is to look at: modules with tensors, lists of functions and their names."""
    torch = pytest.importorskip("torch")

    def module(before: str, **more: Any) -> Any:
        own = {name.removeprefix(before): array for name, array in one.arrays.items() if name.startswith(before)}
        return SimpleNamespace(
            **{name: torch.tensor(a, dtype=getattr(torch, dtype)) for name, a in own.items()}, **more
        )

    depth = sum(name.endswith(".coef") for name in one.arrays)
    names = [one.settings[f"symbolic.funs_name.{n}"] for n in range(depth)]
    lists = {
        name: [torch.tensor(one.arrays[f"{name}_{n}"], dtype=getattr(torch, dtype)) for n in range(depth)]
        for name in ("node_bias", "node_scale", "subnode_bias", "subnode_scale")
    }
    whole = {
        "act_fun": [module(f"act_fun.{n}.", base_fun=torch.nn.SiLU()) for n in range(depth)],
        "symbolic_fun": [
            module(
                f"symbolic_fun.{n}.", funs_name=names[n], funs=[[functions[name] for name in row] for row in names[n]]
            )
            for n in range(depth)
        ],
        "width": [[array.shape[0], 0] for name, array in one.arrays.items() if name.endswith(".coef")] + [[1, 0]],
        "mult_arity": 2,
        "symbolic_enabled": True,
        "input_id": torch.arange(2),
        "depth": depth,
        "state_dict": dict,
    }
    return SimpleNamespace(**(whole | lists | said))


def _functions() -> dict[str, Callable[[Any], Any]]:
    torch = pytest.importorskip("torch")
    return {"0": lambda x: x * 0, "sin": torch.sin, "x^1.5": lambda x: torch.sqrt(x) ** 3, "anonymous": torch.sin}


def test_a_live_model_is_what_its_file_would_be():
    one = fixed(fixed(stored((2, 3), (3, 1), affine=True), 0, 1, 2, "sin"), 0, 0, 2, "x^1.5")
    found = pykan.convert(pykan.live(model(one, _functions())), Options())
    assert equal(found.kan, pykan.convert(one, Options()).kan)


def test_a_live_model_is_read_in_its_precision_and_half_precision_as_float32():
    assert pykan.live(model(stored((2, 1)), _functions(), "float32")).single
    assert pykan.live(model(stored((2, 1)), _functions(), "bfloat16")).arrays["node_bias_0"].dtype == np.float32
    assert not pykan.live(model(stored((2, 1)), _functions())).single


def test_a_live_model_knows_which_inputs_were_kept():
    torch = pytest.importorskip("torch")
    checkpoint = pykan.live(model(stored((2, 1)), _functions(), input_id=torch.tensor([0, 3])))
    found = pykan.convert(checkpoint, Options())
    assert [variable.name for variable in found.kan.inputs] == ["x1", "x4"] and "kept columns 1, 4" in found.notes[0]
    named = pykan.convert(checkpoint, Options(inputs=("a", "b")))
    assert [variable.name for variable in named.kan.inputs] == ["a", "b"]


def test_a_base_function_of_a_live_model_is_what_it_computes():
    torch = pytest.importorskip("torch")
    one = model(stored((2, 2), (2, 1)), _functions())
    one.act_fun[0].base_fun, one.act_fun[1].base_fun = (lambda x: x * 0.0), torch.nn.Identity()
    assert [layer.base for layer in pykan.convert(pykan.live(one), Options()).kan.layers] == ["zero", "identity"]
    one.act_fun[1].base_fun = torch.nn.Tanh()
    with pytest.raises(CheckpointError, match="base function is Tanh"):
        pykan.convert(pykan.live(one), Options())


def test_a_live_function_that_is_not_what_its_name_says_is_refused_with_its_place():
    functions = _functions()
    one = fixed(stored((2, 2), (2, 1)), 0, 1, 0, "sin")
    with pytest.raises(CheckpointError, match="layer 1, edge from input 2 to node 1: its function is called 'sin' and"):
        pykan.live(model(one, functions | {"sin": functions["x^1.5"]}))
    with pytest.raises(CheckpointError, match="its function has no name"):
        pykan.convert(pykan.live(model(fixed(one, 0, 1, 0, "anonymous"), functions)), Options())


def test_a_live_model_of_something_else_or_of_an_older_pykan_is_refused():
    with pytest.raises(CheckpointError, match="SimpleNamespace has not"):
        pykan.live(SimpleNamespace(act_fun=[]))
    torch = pytest.importorskip("torch")
    state = {"act_fun.0.coef": torch.zeros(2, 3, 8), "biases.0.weight": torch.zeros(1, 3)}
    older = SimpleNamespace(act_fun=[], symbolic_fun=[], state_dict=lambda: state)
    with pytest.raises(CheckpointError, match=r"pykan 0\.1"):
        pykan.convert(pykan.live(older), Options())
