"""A network as a plain torch module is the reference, with gradients, and needs nothing of kanserve."""

import copy
import inspect
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import kanserve
from kanserve.errors import CheckpointError, NetworkError
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, equal, make_layer
from kanserve.train.torch import network as torch_network
from kanserve.train.torch.export import from_torch, to_torch
from kanserve.train.torch.network import KanNetwork
from tests.support.agreement import assert_agrees, assert_same_rows_are_nan, eager_float32
from tests.support.networks import kans
from tests.support.networks.powers import POWERS
from tests.support.peers.imported_checkpoints import ALL, IMPORTED, conversion

EVERY = pytest.mark.parametrize("name", kans.ZOO)


def small() -> Kan:
    """The network of the training module's tests, with a first layer that runs out as those of other libraries do."""
    first, *others = kans.small().layers
    return replace(kans.small(), layers=(replace(first, extrapolation="zero"), *others))


def answers(network: Callable[[torch.Tensor], torch.Tensor], x: np.ndarray) -> np.ndarray:
    result: np.ndarray = network(torch.from_numpy(x)).detach().numpy()
    return result


@EVERY
def test_the_module_in_double_agrees_with_evaluate(name: str):
    kan = kans.ZOO[name]()
    x = kans.rows(kan)
    got = answers(to_torch(kan), x)
    assert got.dtype == np.float64
    assert_agrees(got, evaluate(kan, x))


@EVERY
def test_the_module_in_float_is_no_worse_than_plain_float32(name: str):
    kan = kans.ZOO[name]()
    x = kans.rows(kan)
    got = answers(to_torch(kan, dtype=torch.float32), x.astype(np.float32))
    assert got.dtype == np.float32
    assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x))


@EVERY
def test_a_network_comes_back_bit_for_bit(name: str):
    kan = kans.ZOO[name]()
    module = to_torch(kan)
    assert equal(from_torch(module), kan)
    assert equal(from_torch(module.state_dict()), kan)


def test_what_was_trained_outside_comes_back_and_what_is_broken_does_not():
    kan = kans.pruned()
    module = to_torch(kan)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    trained = from_torch(module)
    x = kans.rows(kan)
    assert_agrees(answers(module, x), evaluate(trained, x))
    np.testing.assert_array_equal(trained.layers[0].alive, kan.layers[0].alive)
    state = module.state_dict()
    with pytest.raises(NetworkError, match="finite"):
        from_torch(state | {"layers.0.affine": state["layers.0.affine"] / 0})
    with pytest.raises(NetworkError, match="'structure'; this one has not"):
        from_torch(torch.nn.Linear(2, 1).state_dict())


def test_a_complex_tensor_is_refused_by_its_name():
    state = to_torch(kans.mixed()).state_dict()
    for name in set(state) - {"structure"}:
        with pytest.raises(CheckpointError, match=f"'{name}' has the type complex128; wanted real numbers"):
            from_torch({**state, name: state[name].to(torch.complex128)})


@pytest.mark.slow
@pytest.mark.extended
def test_what_another_library_trained_in_double_goes_out_as_it_came_in():
    chosen = {name: ALL[name] for name in IMPORTED if ALL[name].y.dtype == np.float64}
    assert len(chosen) > 15
    for name, portion in chosen.items():
        kan = conversion(name).kan
        got, want = answers(to_torch(kan), portion.x), evaluate(kan, portion.x)
        assert_same_rows_are_nan(got, want)
        fine = np.isfinite(want).all(axis=1)
        assert np.abs(got[fine] - portion.y[fine]).max() <= portion.allowed * np.abs(portion.y[fine]).max(), name


@EVERY
def test_gradients_of_inputs_are_the_derivative(name: str):
    kan = kans.ZOO[name]()
    rows = kans.rows(kan)
    x = torch.from_numpy(rows).requires_grad_()
    y = to_torch(kan)(x)
    finite = torch.isfinite(y).all(dim=1)
    sums = [y[finite, q].sum() for q in range(y.shape[1])]
    columns = [torch.autograd.grad(total, x, retain_graph=True, materialize_grads=True)[0] for total in sums]
    got = torch.stack(columns, dim=1).numpy()
    assert np.isfinite(got).all() and not got[~finite.numpy()].any()
    want = jacobian(kan, rows)
    got[~finite.numpy()] = np.nan
    # A slope loses a digit to each division by a knot spacing.
    assert_agrees(got.reshape(len(rows), -1), want.reshape(len(rows), -1), tolerance=1e-10)


def test_where_the_two_parts_of_j0_meet_its_slope_is_whole():
    law = kanserve.from_formula("j0(x)", ranges={"x": (-10, 10)})
    x = torch.tensor([[-8.0], [8.0]], dtype=torch.float64, requires_grad=True)
    slope = 0.23463634685391462  # J1(8), from scipy
    (got,) = torch.autograd.grad(to_torch(law)(x).sum(), x)
    torch.testing.assert_close(got, torch.tensor([[slope], [-slope]], dtype=torch.float64), rtol=1e-12, atol=0)


@EVERY
def test_rows_that_are_not_finite_poison_no_parameter(name: str):
    kan = kans.ZOO[name]()
    rows = kans.rows(kan)
    fine = np.isfinite(evaluate(kan, rows)).all(axis=1)
    assert not fine.all()

    def gradients(x: np.ndarray) -> list[torch.Tensor]:
        module = to_torch(kan)
        y = module(torch.from_numpy(x))
        y[torch.isfinite(y).all(dim=1)].sum().backward()
        return [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in module.parameters()
        ]

    for every, only_fine in zip(gradients(rows), gradients(rows[fine]), strict=True):
        assert torch.isfinite(every).all()
        torch.testing.assert_close(every, only_fine, rtol=1e-9, atol=1e-9)


def test_an_overflow_on_the_way_passes_no_gradient_back():
    squares = make_layer(functions=[["exp"], ["exp"]], affine=[[[400.0, 0, 1, 0]], [[400.0, 0, 1, 0]]], arity=[2])
    module = to_torch(Kan((squares,)))
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    y = module(x)
    assert y[0, 0] == 1 and torch.isnan(y[1, 0])
    y[0].sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [800.0, 0.0]
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.slow
@pytest.mark.extended
def test_gradients_agree_with_finite_differences_inside_and_outside():
    kan = small()
    module = to_torch(kan)
    names = [name for name, _ in module.named_parameters()]
    inside = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 2))
    u = torch.from_numpy(np.concatenate([inside, [[-1.4, 0.2], [0.3, 1.6], [0.1, 9.0]]]))
    x = (u * torch.tensor(kan.input_scale) + torch.tensor(kan.input_shift)).requires_grad_()

    def outputs(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))
        return result

    parameters = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    assert torch.autograd.gradcheck(outputs, (x, *parameters))
    assert torch.autograd.gradgradcheck(lambda x: outputs(x, *parameters), (x,))


@pytest.mark.parametrize(("function", "end"), [("sqrt", 0.0), ("arcsin", 1.0), ("arcsin", -1.0), ("arccos", 1.0)])
def test_a_function_passes_no_gradient_where_its_slope_is_infinite(function: str, end: float):
    module = to_torch(Kan((make_layer(functions=[[function]], affine=[[[1.0, 0.0, 1.0, 0.0]]]),)))
    x = torch.tensor([[end], [0.25]], dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    with np.errstate(all="ignore"):
        slope = FUNCTIONS[function].derivative(np.array([end, 0.25]))
    assert not np.isfinite(slope[0]) and x.grad is not None
    np.testing.assert_allclose(x.grad.flatten().numpy(), [0.0, slope[1]], rtol=1e-14)
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.extended
def test_what_is_trained_are_parameters_and_what_is_pruned_stays_pruned():
    kan = kans.pruned()
    module = to_torch(kan)
    kinds = {name.split(".")[-1] for name, _ in module.named_parameters()}
    assert kinds == {"coefficients", "base_weight", "affine", "subnode_bias", "node_bias"}
    before = {name: values.clone() for name, values in module.named_buffers()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    x = torch.from_numpy(kans.rows(kan)[:40]).requires_grad_()
    loss = []
    for _ in range(5):
        optimizer.zero_grad()
        loss.append(module(x).square().mean())
        loss[-1].backward()
        optimizer.step()
    assert loss[-1] < loss[0]
    assert all(torch.equal(values, before[name]) for name, values in module.named_buffers())
    dead = torch.autograd.grad(module(x)[:, 0].sum(), x)[0][:, 1]
    alive = kan.layers[0].alive
    assert alive[:, 1].any() == bool(dead.any())


def test_rows_may_have_any_leading_shape_and_another_width_is_refused():
    kan = kans.multiplication()
    module = to_torch(kan)
    rows = torch.from_numpy(kans.rows(kan)[:12])
    flat = module(rows)
    assert torch.equal(module(rows.reshape(2, 2, 3, 2)), flat.reshape(2, 2, 3, 2))
    assert torch.allclose(module(rows[0]), flat[0], rtol=1e-13)
    assert module(rows[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\), got \(12, 3\)"):
        module(torch.zeros(12, 3))


def test_the_functions_are_those_of_the_table():
    # This file takes no function from kanserve, so that it can be copied: a new row of the table is one line there too.
    assert set(torch_network.FUNCTIONS) == set(FUNCTIONS)
    x = np.concatenate([np.linspace(-12, 12, 4801), [1e-300, 1e300, -1e300]])
    for name in (*FUNCTIONS, *POWERS):
        with np.errstate(all="ignore"):
            want = FUNCTIONS[name].numpy(x)
        got = torch_network.function(name)(torch.from_numpy(x)).numpy()
        want, got = (np.where(np.isfinite(values), values, np.nan)[:, None] for values in (want, got))
        assert_agrees(got, want, tolerance=3e-13 if name in ("gamma", "tan") else 1e-12)


def test_a_state_dict_is_the_whole_network():
    kan = kans.mixed()
    module = to_torch(kan, dtype=torch.float32)
    x = kans.rows(kan).astype(np.float32)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    again = KanNetwork(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(answers(again, x), answers(module, x))
    assert (again.inputs, again.outputs) == (("x1", "x2"), ("y",))
    torch.nn.Sequential(copy.deepcopy(module)).load_state_dict({f"0.{n}": t for n, t in again.state_dict().items()})
    with pytest.raises(ValueError, match="another network's"):
        to_torch(kans.symbolic()).load_state_dict(module.state_dict())


def test_hostile_names_stay_names():
    kan = kans.hostile_names()
    module = KanNetwork(to_torch(kan).state_dict())
    assert module.inputs == tuple(variable.name for variable in kan.inputs)
    assert module.outputs == tuple(output.name for output in kan.outputs)


def test_a_module_can_change_its_precision_later():
    kan = kans.raw_features()
    x = kans.rows(kan)
    got = answers(to_torch(kan).to(torch.float32), x)
    assert got.dtype == np.float32
    assert_same_rows_are_nan(got, evaluate(kan, x))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, at its first forward derivative
@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # on Python 3.13.0
def test_torch_can_transform_and_trace_the_module():
    kan = small()
    module = to_torch(kan)
    x = kans.rows(kan)
    for differentiate in (torch.func.jacrev, torch.func.jacfwd):
        got = torch.func.vmap(differentiate(module))(torch.from_numpy(x[:6])).detach().numpy()
        np.testing.assert_allclose(got, jacobian(kan, x[:6]), rtol=1e-10, atol=1e-10)
    traced = torch.compile(module, backend="eager", fullgraph=True)
    assert_agrees(answers(traced, x), evaluate(kan, x))


WITHOUT_KANSERVE = """
import sys
sys.modules["kanserve"] = None  # an import of it fails
import torch
from safetensors.torch import load_file
from torch_network import KanNetwork

answers = {}
for name, rows in torch.load("rows.pt").items():
    network = KanNetwork(load_file(f"{name}.safetensors"))
    answers[name] = network(rows).detach()
    network(rows[:5]).sum().backward()
answers["small, exported"] = torch.export.load("small.pt2").module()(torch.load("rows.pt")["small"]).detach()
assert not [name for name in sys.modules if name.startswith("kanserve.")]
torch.save(answers, "answers.pt")
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_copied_file_and_weights_are_all_that_a_program_without_kanserve_needs(tmp_path: Path):
    chosen = {name: kans.ZOO[name]() for name in ("outside_linear", "every_function")} | {"small": small()}
    rows = {name: torch.from_numpy(kans.rows(kan)) for name, kan in chosen.items()}
    for name, kan in chosen.items():
        save_file(to_torch(kan).state_dict(), tmp_path / f"{name}.safetensors")
    torch.save(rows, tmp_path / "rows.pt")
    any_number = {0: torch.export.Dim("rows", min=2)}
    exported = torch.export.export(to_torch(small()), (rows["small"][:3],), dynamic_shapes=(any_number,))
    torch.export.save(exported, tmp_path / "small.pt2")
    shutil.copy(inspect.getfile(KanNetwork), tmp_path / "torch_network.py")
    alone = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KANSERVE], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, got in torch.load(tmp_path / "answers.pt").items():
        kan = chosen[name.removesuffix(", exported")]
        assert_agrees(got.numpy(), evaluate(kan, kans.rows(kan)))


def test_without_torch_it_says_what_to_install():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from kanserve.errors import MissingDependencyError\n"
        "from kanserve.train.torch.export import to_torch\n"
        "try:\n    to_torch(None)\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "kanserve[torch]" in done.stdout


def test_both_are_public_names():
    assert kanserve.to_torch is to_torch and kanserve.from_torch is from_torch
