"""Group-rational KANs, as KAT (the Kolmogorov-Arnold transformer) has them: quotients of polynomials, then a matrix.

    y_j = bias_j + Σ_i W[j, i]·P(x_i)/Q(x_i),   P(x) = Σ_k a_k·x^k,   Q(x) = 1 + Σ_k |b_k|·|x|^k,  k = 1, 2, ...

where consecutive inputs form groups with the same a and b. This is what KAT's GPU kernels compute. Its plain torch code
has x^k in place of |x|^k, another function of negative x; its paper has the sum inside the bars.

| array | shape | |
|---|---|---|
| act{l}.weight_numerator | (1 or groups, m + 1) | a_0 to a_m; one row is for all groups |
| act{l}.weight_denominator | (groups, n) | b_1 to b_n |
| fc{l}.weight, fc{l}.bias | (O, I), (O,) | a torch.nn.Linear; the bias may be missing |

"rational" may stand for "act", and "linear" for "fc"; the numbers may be those of a prefix, as in "layers.0.act". A
layer becomes five, exactly: x and |x|, their powers, P and Q, P·(1/Q), and the sums.
"""

import re
from typing import Any

import numpy as np

from kanserve.errors import CheckpointError
from kanserve.importers.arrays import arrays_of
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.function_layers import check_size, each_input, make_weighted_sums, weigh
from kanserve.importers.state_dict_layers import Stored, check_chain, check_idle, holds, stack, variables
from kanserve.network.kan import Kan, Layer, make_layer

LIBRARY = "rational-kan"
_WANTED, _OTHERS = ("weight_numerator", "weight_denominator", "weight"), ("bias",)
_PART = re.compile(r"(.*?)(?:act|rational|fc|linear)(\d*)\.([a-z_]+)")
_POWERS = ("x", "x^2", "x^3", "x^4", "x^5")  # the whole ones that have a name
_USUAL_RANGE = 3.0


def matches(checkpoint: Checkpoint) -> bool:
    """Whether there are weights of a numerator and a denominator."""
    return holds(checkpoint, "weight_numerator", "weight_denominator")


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint; the outputs are equal."""
    layers: list[Layer] = []
    shapes = []
    for stored in stack(_merge(checkpoint), LIBRARY, _WANTED, _OTHERS):
        own = _layers(stored)
        layers += own
        shapes.append((own[-1].nodes, own[0].inputs))
    check_chain(shapes)
    note = (
        "The quotients are taken to stand before the linear layers, and the denominators to be 1 + Σ|b_k|·|x|^k, as in "
        "KAT's GPU kernels; its torch code has another one for negative x."
    )
    return Conversion(Kan(tuple(layers), *variables(options)), LIBRARY, (note,))


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live model that consists only of such layers."""
    arrays = arrays_of(model.state_dict(), f"the {type(model).__name__}")
    owners = {key.rpartition(".")[0] for key in arrays}
    for name, module in model.named_modules():
        if name not in owners:
            check_idle(name, module)
    return Checkpoint(arrays, name=f"the {type(model).__name__}")


def _merge(checkpoint: Checkpoint) -> Checkpoint:
    """Give all arrays of a layer one prefix: "act1." and "fc1." both become "layer1."."""
    arrays = {}
    for key, array in checkpoint.arrays.items():
        part = _PART.fullmatch(key)
        stem = "" if part is None else f"layer{part[2]}." if part[2] else ""
        arrays[key if part is None else f"{part[1]}{stem}{part[3]}"] = array
    return Checkpoint(arrays, checkpoint.settings, checkpoint.name)


def _layers(stored: Stored) -> list[Layer]:
    weight = stored.array("weight", "node", "input")
    nodes, inputs = weight.shape
    below = np.abs(stored.array("weight_denominator", "group", "power"))
    groups, n = below.shape
    above = stored.array("weight_numerator", "group", "power")
    if len(above) not in (1, groups) or inputs % groups:
        raise CheckpointError(
            f"{stored.place}: {len(above)} numerators and {groups} denominators do not go with {inputs} inputs, which "
            "are groups of equal size."
        )
    m = above.shape[1] - 1
    if max(m, n) > len(_POWERS):
        raise CheckpointError(f"{stored.place} has powers up to {max(m, n)}; {len(_POWERS)} is the largest.")
    m = max(m, 1)
    check_size(stored.place, inputs, 2 * inputs**2 * (m + n))
    above = np.pad(above, ((0, 0), (0, m + 1 - above.shape[1])))
    each = np.arange(inputs)
    group = each // (inputs // groups)
    a, b = np.broadcast_to(above, (groups, m + 1))[group], below[group]

    sizes = each_input([("x", 1.0), ("abs", 1.0)], inputs, -_USUAL_RANGE, _USUAL_RANGE)
    # Powers of x and then of |x|, for each input.
    picked = np.zeros((inputs, m + n, inputs, 2))
    picked[each, :m, each, 0] = picked[each, m:, each, 1] = 1.0
    powers = weigh(picked.reshape(inputs * (m + n), 2 * inputs))
    names = np.tile([*_POWERS[:m], *_POWERS[:n]], inputs)[:, None]
    powers["functions"] = np.where(powers["functions"] != "", names, "")
    # P and Q of each input, side by side.
    sums = np.zeros((inputs, 2, inputs, m + n))
    sums[each, 0, each, :m] = a[:, 1:]
    sums[each, 1, each, m:] = b
    free = np.stack([a[:, 0], np.ones(inputs)], axis=1).ravel()
    quotients = weigh(np.eye(2 * inputs))
    quotients["functions"][1::2][quotients["functions"][1::2] != ""] = "1/x"
    bias = stored.of_shape("bias", (nodes,), "node") if "bias" in stored else None
    return [
        sizes,
        make_layer(**powers, order=1, base="zero"),
        make_weighted_sums(sums.reshape(2 * inputs, inputs * (m + n)), free),
        make_layer(**quotients, arity=np.full(inputs, 2), order=1, base="zero"),
        make_weighted_sums(weight, bias),
    ]
