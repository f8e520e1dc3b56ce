"""Read arrays by name from NumPy, torch, jax or bytes; nested or flat, in any precision."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, reason

# Prefixes of every name: from parallel and compiled wrappers, and the usual names of a submodule.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "kan.")
# Keys under which training scripts save the network's state beside other things.
STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "kan", "params", "weights")
SLACK = 64 << 20  # bytes by which arrays may exceed their file: views of one storage, compressed zeros
DEEPEST, MOST_ENTRIES = 8, 100_000


def arrays_of(given: Mapping[Any, Any], name: str, most: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a state_dict, or of one nested in a training script's checkpoint, without wrappers' prefixes; at
    most `most` bytes. Raises CheckpointError, naming the entry, for anything but a dense array of numbers."""
    state = _state(given)
    if not state:
        raise CheckpointError(f"{name} holds no arrays.")
    found: dict[str, NDArray[Any]] = {}
    total = 0
    for key, value in _flat(state, name).items():
        _check_kind(value, key, name)
        total += _bytes(value)
        if most is not None and total > most:
            raise CheckpointError(f"{name} is damaged: its arrays stand for more bytes than it can hold.")
        found[key] = _array(value, key, name)
    return _without_prefixes(found)


def is_array(value: Any) -> bool:
    # Looked up on the class: reading a nested tensor's shape raises.
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def widen(array: NDArray[Any]) -> NDArray[Any]:
    """The array with float16 and bfloat16 widened to float32, which is exact."""
    narrow = array.dtype == np.float16 or array.dtype.name == "bfloat16"  # the second is jax's, not NumPy's
    return array.astype(np.float32) if narrow else array


def _state(given: Mapping[Any, Any]) -> Mapping[Any, Any]:
    if all(map(is_array, given.values())):
        return given
    inside = [given[key] for key in STATES if isinstance(given.get(key), Mapping)]
    return next((state for state in inside if state and all(map(is_array, state.values()))), given)


def _flat(given: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Flatten nested mappings; names are joined by dots."""
    found: dict[str, Any] = {}
    for count, (path, value) in enumerate(_entries(given, name)):
        if count > MOST_ENTRIES:  # repeats of one shared mapping count too
            raise CheckpointError(f"{name} stands for more than {MOST_ENTRIES} entries.")
        if path in found:
            raise CheckpointError(f"{name} has {clip_key(path)} twice.")
        if not isinstance(value, Mapping):
            found[path] = value
    return found


def _entries(given: Mapping[Any, Any], name: str, before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise CheckpointError(f"{name} is nested deeper than {DEEPEST} levels.")
    for key, value in given.items():
        if not isinstance(key, str | int):
            raise CheckpointError(f"{name} is not a state_dict: it has an entry whose name is {type(key).__name__}.")
        yield f"{before}{key}", value
        if isinstance(value, Mapping):
            yield from _entries(value, name, f"{before}{key}.", depth + 1)


def _array(value: Any, key: str, name: str) -> NDArray[Any]:
    if not is_array(value):
        raise CheckpointError(
            f"{name}: {clip_key(key)} is {with_article(type(value).__name__)}, not an array; give the state_dict alone."
        )
    if _is_tensor(value):
        value = _of_tensor(value, key, name)
    array = widen(np.asarray(value))
    if array.dtype.kind == "f" and np.isnan(array).any():
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)  # a signalling NaN would warn at each use
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise CheckpointError(f"{name}: {clip_key(key)} has the type {array.dtype.name}; wanted real numbers.")
    return array


def _is_tensor(value: Any) -> bool:
    return is_array(value) and hasattr(type(value), "is_quantized")  # without importing torch


def _check_kind(tensor: Any, key: str, name: str) -> None:
    """Raise CheckpointError for a tensor that is quantized, nested, sparse or without data."""
    if not _is_tensor(tensor):
        return
    import torch

    if tensor.is_quantized or tensor.is_nested or tensor.layout != torch.strided:
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else "sparse"
        raise CheckpointError(f"{name}: {clip_key(key)} is a {kind} tensor; save it dense, as float32 or float64.")
    if tensor.device.type == "meta":
        raise CheckpointError(
            f"{name}: {clip_key(key)} is a tensor without data (device 'meta'); save the trained one."
        )


def _of_tensor(tensor: Any, key: str, name: str) -> NDArray[Any]:
    import torch

    try:
        plain = tensor.detach().cpu().resolve_conj().resolve_neg()
        if plain.dtype in (torch.bfloat16, torch.float16):
            plain = plain.float()
        array: NDArray[Any] = plain.numpy().copy()
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{name}: {clip_key(key)} cannot be read as an array: {reason(error)}.") from None
    return array


def _bytes(value: Any) -> int:
    """The size in bytes of a value as a separate array, even if its storage is shared."""
    if not is_array(value):
        return 0
    count = 1
    for side in tuple(value.shape):
        count *= int(side)
    return count * int(getattr(value.dtype, "itemsize", 8))


def _without_prefixes(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    while True:
        prefix = next(
            (prefix for prefix in PREFIXES if all(key.startswith(prefix) and key != prefix for key in arrays)), ""
        )
        if not prefix:
            return arrays
        arrays = {key.removeprefix(prefix): value for key, value in arrays.items()}


def clip_key(key: object) -> str:
    """Shorten an array's name for a message: at most 60 characters, on one line."""
    text = str(key)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def with_article(word: str) -> str:
    """A word with "a" or "an" before it."""
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
