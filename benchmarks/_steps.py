"""One training step of a network in each library: forward, backward and Adam, in float32 on one thread.

As a program it measures the memory of one library in its own process: python -m benchmarks._steps LIBRARY NET BATCH
"""

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

# jax's setting for one thread, before it is imported.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

NETS = {
    "2-5-1": ([2, 5, 1], 5),
    "64-64-64-10": ([64, 64, 64, 10], 5),
    "784-64-10": ([784, 64, 10], 5),
    "4-10-10-1 G50": ([4, 10, 10, 1], 50),
}
ORDER = 3  # of the splines
RATE = 1e-3
STEPS = 5  # steps whose memory is measured, after a warm-up step

Step = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """What a step trains: a network on a batch of rows (N, inputs) with targets (N, outputs), by mean squared error."""

    net: str
    batch: int

    @property
    def shape(self) -> list[int]:
        return NETS[self.net][0]

    @property
    def grid(self) -> int:
        return NETS[self.net][1]

    def arrays(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        x = rng.uniform(-1, 1, (self.batch, self.shape[0])).astype(np.float32)
        return x, rng.normal(0, 1, (self.batch, self.shape[-1])).astype(np.float32)


def kanserve(task: Task) -> Step:
    from kanserve.nn import KAN

    return _torch_step(task, KAN(task.shape, grid=task.grid))


def mlp(task: Task) -> Step:
    """A multilayer perceptron of the same widths, with SiLU."""
    import torch

    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(task.shape):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.SiLU()]
    return _torch_step(task, torch.nn.Sequential(*layers[:-1]))


def plain_torch(task: Task) -> Step:
    """A typical KAN in torch, in efficient-kan's form."""
    import torch

    from benchmarks._torch_kan import to_torch
    from kanserve.train import create

    return _torch_step(task, to_torch(create(task.shape, grid=task.grid), torch.float32))


def chebyshev(task: Task) -> Step:
    """A Chebyshev KAN in torch, with as many weights on an edge as a spline has."""
    import torch

    from benchmarks._torch_kan import ChebyshevLayer

    degree = task.grid + ORDER - 1
    return _torch_step(task, torch.nn.Sequential(*(ChebyshevLayer(i, o, degree) for i, o in pairwise(task.shape))))


def flashkan(task: Task) -> Step:
    """With its default settings: basis functions under torch.compile."""
    return _torch_step(task, import_module("flashkan").KANNetwork(task.shape, grid_size=task.grid))


def inkan(task: Task) -> Step:
    """With its default settings: basis functions under torch.compile."""
    return _torch_step(task, import_module("inkan").KANNetwork(task.shape, grid_size=task.grid))


def inkan_eager(task: Task) -> Step:
    return _torch_step(task, import_module("inkan").KANNetwork(task.shape, grid_size=task.grid, compile_basis=False))


def pykan(task: Task) -> Step:
    """In its fast mode, without symbolic functions."""
    import torch

    from benchmarks._pykan import elsewhere

    with elsewhere(torch.float32):
        model = import_module("kan").KAN(width=list(task.shape), grid=task.grid, k=ORDER, auto_save=False)
    return _torch_step(task, model.speed())


def _torch_step(task: Task, model: Any) -> Step:
    import torch

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(array) for array in task.arrays())
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=RATE, fused=True
    )

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimizer.step()

    return step


def jaxkan(task: Task) -> Step:
    """Its layers in efficient-kan's form, with the whole step compiled."""
    jax, nnx, optax = (import_module(name) for name in ("jax", "flax.nnx", "optax"))
    x, y = (jax.numpy.asarray(array) for array in task.arrays())
    model = import_module("jaxkan.models.KAN").KAN(task.shape, "spline", {"k": ORDER, "G": task.grid}, seed=0)
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    def step(model: Any, optimizer: Any) -> Any:
        loss, gradient = nnx.value_and_grad(lambda own: ((own(x) - y) ** 2).mean())(model)
        optimizer.update(model, gradient)
        return loss

    compiled = nnx.jit(step)
    return lambda: compiled(model, optimizer).block_until_ready()


LIBRARIES: dict[str, Callable[[Task], Step]] = {
    "kanserve": kanserve,
    "MLP": mlp,
    "flashkan": flashkan,
    "inkan": inkan,
    "inkan eager": inkan_eager,
    "jaxkan": jaxkan,
    "torch": plain_torch,
    "Chebyshev": chebyshev,
    "pykan": pykan,
}
PEERS = tuple(name for name in LIBRARIES if name not in ("kanserve", "MLP"))


def peak(name: str, task: Task) -> float:
    """The peak memory of steps after the first, in MB above that of the imported library."""
    LIBRARIES[name](Task("2-5-1", 8))()  # warm-up: imports and small compilations
    gc.collect()
    before = _memory("VmRSS")
    step = LIBRARIES[name](task)
    step()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM counts from here
    for _ in range(STEPS):
        step()
    return (_memory("VmHWM") - before) / 1e3


def _memory(name: str) -> int:
    """A figure of this process, in kB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


if __name__ == "__main__":
    print(peak(sys.argv[1], Task(sys.argv[2], int(sys.argv[3]))))
