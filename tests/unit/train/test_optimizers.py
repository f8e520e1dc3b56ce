"""LBFGS and AdamW on functions whose minima are known."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor

from kanserve.train.torch.optimizers import Function, Lbfgs, adam, adam_step, lbfgs, lbfgs_step


def gradient_of(function: "object") -> Function:
    def loss_and_gradient(vector: Tensor) -> tuple[float, Tensor]:
        v = vector.detach().requires_grad_()
        loss = function(v)  # type: ignore[operator]  # a test's own function
        return loss.item(), torch.autograd.grad(loss, v)[0]

    return loss_and_gradient


def rosenbrock(v: Tensor) -> Tensor:
    return (100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2).sum()


def states(function: Function, start: Tensor) -> Iterator[Lbfgs]:
    state = lbfgs(function, start)
    while state is not None and (state := lbfgs_step(function, state)) is not None:
        yield state


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_lbfgs_follows_a_curved_valley_to_its_end_whatever_the_unit_of_the_loss(scale: float):
    start = torch.full((10,), -1.2, dtype=torch.float64)
    *_, last = islice(states(gradient_of(lambda v: scale * rosenbrock(v)), start), 300)
    assert last.loss < 1e-20 * scale
    torch.testing.assert_close(last.vector, torch.ones_like(start), rtol=0, atol=1e-9)


def test_losses_of_lbfgs_only_fall_and_its_sequence_ends():
    losses = [state.loss for state in states(gradient_of(rosenbrock), torch.full((5,), -1.2, dtype=torch.float64))]
    assert losses == sorted(set(losses), reverse=True)
    assert len(losses) < 500


def test_lbfgs_steps_back_from_where_the_loss_is_not_finite():
    def barrier(v: Tensor) -> Tensor:
        return (v * v.log()).sum() + (v - 3).square().sum()  # NaN for v < 0, a slope of 1e8 beside it

    start = torch.tensor([1e-8, 30.0, 1.0], dtype=torch.float64)
    vectors = [state.vector for state in states(gradient_of(barrier), start)]
    assert all(torch.isfinite(vector).all() and (vector >= 0).all() for vector in vectors)
    # Where 1 + log v + 2(v - 3) = 0.
    torch.testing.assert_close(vectors[-1], torch.full_like(start, 2.1235), rtol=0, atol=1e-4)


def test_neither_begins_where_the_loss_is_not_finite():
    start = torch.tensor([-1.0], dtype=torch.float64)
    assert lbfgs(gradient_of(lambda v: v.log().sum()), start) is None
    state = adam(start)
    assert not adam_step(gradient_of(lambda v: v.log().sum()), state, 0.1)
    torch.testing.assert_close(state.vector, start, rtol=0, atol=0)


def test_adam_is_adamw():
    vector = torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64)
    decay = torch.tensor([0.3, 0.3, 0.3], dtype=torch.float64)
    state = adam(vector)
    assert all(adam_step(gradient_of(rosenbrock), state, 0.01, decay) for _ in range(25))
    want = vector.clone().requires_grad_()
    optimizer = torch.optim.AdamW([want], lr=0.01, weight_decay=0.3)
    for _ in range(25):
        optimizer.zero_grad()
        rosenbrock(want).backward()
        optimizer.step()
    torch.testing.assert_close(state.vector, want.detach(), rtol=1e-12, atol=0)
    assert state.loss == pytest.approx(rosenbrock(state.vector).item(), rel=0.1)
