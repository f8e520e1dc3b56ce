"""Call the compiled kernels of kanserve/native/layer/layer.h from torch operators."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from kanserve import native
from kanserve.errors import InputError, MissingDependencyError
from kanserve.train.torch import basis_tensor

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

_TYPES = {torch.float32: "float", torch.float64: "double"}
_SIGNATURES = {  # p is a pointer, n a number
    "layer_forward": "pnnppppppppp",
    "layer_backward": "pnnppppppppppppp",
    "spline_sums": "pnnpnpppp",
    "spline_inputs": "pnnpnpppp",
    "spline_coefficients": "pnnpnpppp",
}


def has_kernels(x: Tensor) -> bool:
    """Whether there are compiled kernels for tensors like x. Function transforms (torch.func) need plain torch."""
    if x.device.type != "cpu" or x.dtype not in _TYPES:
        return False
    # While tracing, operators are called; they choose the kernel when they run.
    return torch.compiler.is_compiling() or (native.library() is not None and not _transformed())


# Neither is public. If torch drops them, transforms fail with torch's own message, and every call is dispatched.
_transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_watchers: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)


def watch(x: Tensor) -> bool:
    """Whether operator calls are traced or counted. If not, bypassing torch's dispatcher halves a layer's cost."""
    return type(x) is not Tensor or torch.compiler.is_compiling() or _watchers() > 0


def kernel(name: str, x: Tensor) -> Callable[..., int] | None:
    """The compiled function for tensors like x, or None."""
    library = native.library()
    if library is None or x.device.type != "cpu" or x.dtype not in _TYPES:
        return None
    return _load_function(library, name, _TYPES[x.dtype])


@cache
def _load_function(library: ctypes.CDLL, name: str, real: str) -> Callable[..., int]:
    function = library[f"kanserve_{name}_{real}"]
    function.argtypes = [ctypes.c_void_p if signature == "p" else ctypes.c_int64 for signature in _SIGNATURES[name]]
    return function


def run(
    kernel: Callable[..., int],
    coefficients: torch.Size,
    order: int,
    base: int,
    x: Tensor,
    numbers: Sequence[int],
    table: Tensor,
    *tensors: Tensor | None,
) -> None:
    """Call a kernel on the rows of x and its other arguments. Tensors it writes to must be contiguous."""
    shape = _shape(coefficients, order, table.shape[1], base)
    held = [x.contiguous(), table, *(None if tensor is None else tensor.contiguous() for tensor in tensors)]
    first, *pointers = [None if tensor is None else tensor.data_ptr() for tensor in held]
    rows = x.numel() // x.shape[-1]
    if kernel(ctypes.addressof(shape), rows, torch.get_num_threads(), first, *numbers, *pointers):
        raise MemoryError("There is not enough memory for a layer's scratch space. Take fewer rows at once.")


def check(coefficients: Tensor, x: Tensor, table: Tensor, *others: tuple[Tensor | None, int]) -> None:
    """Raise InputError unless all tensors have x's precision, are on the CPU, and `others` have the given sizes: a
    kernel reads as many numbers as the shapes say, unchecked."""
    inputs, dtype = coefficients.shape[1], x.dtype
    if not len(table) == x.shape[-1] == inputs:
        raise InputError(f"A layer of {inputs} inputs got rows of {x.shape[-1]} and {len(table)} grids.")
    for tensor, count in ((coefficients, 0), (table, 0), *others):
        if tensor is None:
            continue
        if tensor.dtype is not dtype or not tensor.is_cpu:
            raise InputError(
                f"All of a layer must be of one precision on one device; its rows are {dtype} on {x.device}, and "
                f"some of it is {tensor.dtype} on {tensor.device}. Convert the whole module: module.to(dtype)."
            )
        if count and tensor.numel() != count:
            raise InputError(
                f"A layer needs {count} numbers where it got {tensor.numel()}, of shape {tuple(tensor.shape)}."
            )


class _Shape(ctypes.Structure):
    """The C structure `kanserve_spline_layer` of kanserve/native/layer/layer.h."""

    _fields_ = [(name, ctypes.c_int64) for name in ("inputs", "outputs", "functions", "order", "pieces", "base")]


@lru_cache(maxsize=1024)
def _shape(coefficients: torch.Size, order: int, record: int, base: int) -> _Shape:
    """The shape record of a layer, from the shape (O, I, G+k) of its coefficients."""
    outputs, inputs, functions = coefficients
    return _Shape(inputs, outputs, functions, order, basis_tensor.pieces(record, order), base)
