"""A trained Kolmogorov-Arnold network as a torch module. This file needs only torch: copy it along with the weights.

    network = KanNetwork(torch.load("network.pt"))  # the state_dict of `kanserve.to_torch`, or of this class
    y = network(x)                                  # raw features (..., inputs) to raw outputs (..., outputs)

A layer has I inputs, O subnodes, Q nodes and splines of order k on G intervals for each input:

    edge(j,i)(x) = base_weight[j,i]·base(x) + Σ_m coefficients[j,i,m]·B_m,k(x; knots[i]) + c·f(a·x + b) + d
    z_j = subnode_scale_j·Σ_i edge(j,i)(x_i) + subnode_bias_j
    node_q = node_scale_q·Π_{j in group q} z_j + node_bias_q

Before that, the code of a category (0, 1, ..) becomes its number, and NaN the fill value, for inputs that have these.
An edge has one of the two parts, both or none. A row in which anything is not finite is NaN in all outputs and passes
no gradient back; nor does a function where its slope is infinite, such as a root at 0. Part of kanserve, Apache-2.0.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

TRAINED = ("coefficients", "base_weight", "affine", "subnode_bias", "node_bias")
FIXED = ("knots", "spline_mask", "base_mask", "subnode_scale", "node_scale")
ENDS = ("input_shift", "input_scale", "output_shift", "output_scale")
GOES_ON = {"linear": True, "zero": False}
INSIDE_EVERY_DOMAIN = 0.5

# Chebyshev series of J0 on |x| <= 8, in x²/32 - 1, and of the P and Q of its wave beyond, in 128/x² - 1.
J0_NEAR = (
    *(0.15772797147489012, -0.008723442352852221, 0.2651786132033368, -0.37009499387264977, 0.15806710233209725),
    *(-0.034893769411408884, 0.004819180069467605, -0.00046062616620627504, 3.246032882100508e-05),
    *(-1.7619469077621507e-06, 7.608163592418782e-08, -2.679253530557673e-09, 7.848696314479465e-11),
    *(-1.9438346867370164e-12, 4.125320595634374e-14, -7.588508125447546e-16, 1.2218515873961411e-17),
)
J0_P = (
    *(0.9994603493475187, -0.0005365220468132117, 3.0751847875194745e-06, -5.1705945376060975e-08),
    *(1.6306464635151382e-09, -7.86409137723707e-11, 5.168262387349193e-12, -4.3045788699253914e-13),
    *(4.3265957431549404e-14, -5.069034095935236e-15, 6.748072215733873e-16, -1.0011513723467786e-16),
)
J0_Q = (
    *(-0.12444683684269607, 0.0005470815954089319, -5.9315987288485175e-06, 1.4377965798375193e-07),
    *(-5.817532749493056e-09, 3.376097523734991e-10, -2.565397936797308e-11, 2.404916100281365e-12),
    *(-2.6690625482579414e-13, 3.4041800321963686e-14, -4.87994410531204e-15, 7.729703176242605e-16),
)


def _chebyshev(series: tuple[float, ...], t: Tensor) -> Tensor:
    after = last = torch.zeros_like(t)
    for coefficient in series[:0:-1]:
        last, after = 2 * t * last - after + coefficient, last
    return t * last - after + series[0]


def _j0(x: Tensor) -> Tensor:
    """The Bessel function J0. torch's own is off by 4e-7 beyond 5, and has no derivative."""
    inside = x.abs() < 8
    near, far = torch.where(inside, x.abs(), 8.0), torch.where(inside, 8.0, x.abs())
    t = 128 / far**2 - 1
    p, q, sine, cosine = _chebyshev(J0_P, t), _chebyshev(J0_Q, t) / far, far.sin(), far.cos()
    wave = (p * (cosine + sine) - q * (sine - cosine)) / torch.sqrt(math.pi * far)
    return torch.where(inside, _chebyshev(J0_NEAR, near**2 / 32 - 1), wave)


def _flat_at(place: float, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Block the gradient at ±place, where it would be infinite."""
    return lambda x: function(torch.where(x.abs() == place, x.detach(), x))


_sqrt = _flat_at(0.0, torch.sqrt)
_arcsin = _flat_at(1.0, torch.asin)
_arccos = _flat_at(1.0, torch.acos)


def _gamma(x: Tensor) -> Tensor:
    return torch.exp(torch.lgamma(x)) + 0 * torch.log(x)  # 0·log makes it NaN unless x > 0


# The functions f of named edges, written by `make functions`. Outside its domain a function is NaN or infinite.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "x^2": lambda x: x * x,
    "x^3": lambda x: x * x * x,
    "x^4": lambda x: (x * x) * (x * x),
    "1/x": lambda x: 1 / x,
    "1/x^2": lambda x: 1 / (x * x),
    "sqrt": _sqrt,
    "1/sqrt": lambda x: 1 / _sqrt(x),
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "arcsin": _arcsin,
    "arccos": _arccos,
    "arctan": torch.atan,
    "arctanh": torch.atanh,
    "arcsinh": torch.asinh,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": lambda x: x * torch.sigmoid(x),
    "gaussian": lambda x: torch.exp(-x * x),
    "abs": torch.abs,
    "sign": torch.sign,
    "erf": torch.erf,
    "j0": _j0,
    "gamma": _gamma,
    "x^5": lambda x: (x * x) * (x * x) * x,
    "1/x^3": lambda x: 1 / (x * x * x),
    "1/x^4": lambda x: 1 / ((x * x) * (x * x)),
    "1/x^5": lambda x: 1 / ((x * x) * (x * x) * x),
    "x^1.5": lambda x: x * _sqrt(x),
}


def function(name: str) -> Callable[[Tensor], Tensor]:
    """Look up a function by name: one from FUNCTIONS, or a power such as x^(5/3) or 1/x^1.37."""
    return FUNCTIONS.get(name) or _power(name)


def _power(name: str) -> Callable[[Tensor], Tensor]:
    """A power with a real exponent. For negative numbers the real root if the denominator is odd, else NaN."""
    above, _, below = name.rpartition("^")[2].strip("()").partition("/")
    sign = -1 if name.startswith("1/") else 1
    if not below:
        return lambda x: x ** (sign * float(above))
    p, q = int(above), int(below)
    exponent = sign * (p / q)
    if q % 2 == 0:
        return _flat_at(0.0, lambda x: x**exponent) if exponent > 0 else lambda x: x**exponent
    size = _flat_at(0.0, lambda x: x.abs() ** exponent)
    return (lambda x: torch.where(x < 0, -size(x), size(x))) if p % 2 else size


BASES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "identity": lambda x: x,
    "zero": torch.zeros_like,
}


class KanNetwork(nn.Module):
    """A whole network from its state_dict, with the precision and the device of its tensors."""

    structure: Tensor  # JSON as bytes: names, and the layers without their arrays

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        said = json.loads(bytes(state["structure"].tolist()))
        self.inputs = tuple(name for name, *_ in said["inputs"])
        self.encodings = {i: tuple(more) for i, (_, _, _, _, *more) in enumerate(said["inputs"]) if more}
        self.outputs = tuple(name for name, *_ in said["outputs"])
        for name in ("structure", *ENDS):
            self.register_buffer(name, state[name].detach().clone())
        self.layers = nn.ModuleList(
            KanLayer(layer, _under(f"layers.{n}.", state)) for n, layer in enumerate(said["layers"])
        )
        # torch gives this method no types
        self.register_load_state_dict_pre_hook(_refuse_another_structure)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != len(self.inputs):
            raise ValueError(f"Rows must have shape (..., {len(self.inputs)}), got {tuple(x.shape)}.")
        shift, scale, output_shift, output_scale = (self.get_buffer(name) for name in ENDS)
        v = (encode(x.reshape(-1, len(self.inputs)).to(shift.dtype), self.encodings) - shift) / scale
        fine = torch.isfinite(v).all(dim=1, keepdim=True)
        for layer in self.layers:
            # 0 in place of values that are not finite, so that no gradient of such a row is 0·infinity.
            v, still = layer(torch.where(fine, v, 0.0))
            fine = fine & still
        y = output_scale * v + output_shift
        y = torch.where(fine & torch.isfinite(y).all(dim=1, keepdim=True), y, torch.nan)
        return y.reshape(*x.shape[:-1], len(self.outputs))


def encode(x: Tensor, encodings: Mapping[int, tuple[Any, ...]]) -> Tensor:
    """Replace category codes and NaN in raw rows (N, inputs) by their numbers. `encodings` has the fill value (or
    None), the categories and their numbers for some inputs. No gradient goes through."""
    if not encodings:
        return x
    columns = list(x.unbind(dim=1))
    for i, (fill, _, numbers) in encodings.items():
        raw, fill_value = columns[i], math.nan if fill is None else fill
        if numbers:
            raw = raw.detach()
            known = (raw >= 0) & (raw < len(numbers)) & (raw == raw.floor())
            found = x.new_tensor(numbers)[torch.where(known, raw, 0.0).long()]
            columns[i] = torch.where(known, found, torch.where(raw.isinf(), raw, fill_value))
        else:
            columns[i] = torch.where(raw.isnan(), fill_value, raw)
    return torch.stack(columns, dim=1)


class KanLayer(nn.Module):
    """One layer: maps finite values (N, I) to nodes (N, Q), with a mask of the valid rows (N, 1)."""

    knots: Tensor  # (I, G+2k+1), already extended
    coefficients: nn.Parameter  # (O, I, G+k)
    base_weight: nn.Parameter  # (O, I)
    affine: nn.Parameter  # (O, I, 4): a, b, c, d
    subnode_bias: nn.Parameter  # (O,)
    node_bias: nn.Parameter  # (Q,)
    spline_mask: Tensor  # (O, I): the edges that have a spline, or a base function
    base_mask: Tensor  # (O, I)
    subnode_scale: Tensor  # (O,)
    node_scale: Tensor  # (Q,)
    ends: Tensor  # (I, 2, G+k): the slopes of the basis at both ends of the range, for linear extrapolation
    targets: Tensor  # (E,): j of the named edges, sorted by function
    sources: Tensor  # (E,): i
    members: Tensor  # (largest arity, Q): the subnodes of each node; index O stands for a factor of 1

    def __init__(self, said: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in TRAINED:
            self.register_parameter(name, nn.Parameter(state[name].detach().clone()))
        self.order = int(said["order"])
        self.goes_on = GOES_ON[said["extrapolation"]]
        for name in (*FIXED, "ends") if self.goes_on else FIXED:
            self.register_buffer(name, state[name].detach().clone())
        self.base = BASES[said["base"]]
        self.has_splines = bool(said["splines"])
        # (name, j, i) of each named edge
        edges = sorted(said["functions"])
        names = [name for name, _, _ in edges]
        self.runs = [(function(name), names.count(name)) for name in dict.fromkeys(names)]
        tables = {
            "targets": [j for _, j, _ in edges],
            "sources": [i for _, _, i in edges],
            "members": _members(said["arity"]),
        }
        for name, table in tables.items():
            values = torch.tensor(table, dtype=torch.int64, device=self.knots.device)
            self.register_buffer(name, values, persistent=False)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        sums = v.new_zeros(v.shape[0], len(self.subnode_bias))
        if self.has_splines:
            sums = sums + self.splines(v)
        if self.runs:
            sums = sums.index_add(1, self.targets, self.functions(v))
        z = self.subnode_scale * sums + self.subnode_bias
        fine = torch.isfinite(z).all(dim=1, keepdim=True)
        z = torch.where(fine, z, 0.0)
        z = torch.cat([z, z.new_ones(z.shape[0], 1)], dim=1)
        product = z[:, self.members[0]]
        for n in range(1, self.members.shape[0]):
            product = product * z[:, self.members[n]]
        nodes = self.node_scale * product + self.node_bias
        return nodes, fine & torch.isfinite(nodes).all(dim=1, keepdim=True)

    def splines(self, v: Tensor) -> Tensor:
        """The sums (N, O) of splines and base functions in each subnode."""
        v = torch.where(self.spline_mask.any(dim=0), v, 0.0)
        coefficients = self.coefficients * self.spline_mask[:, :, None]
        total = self.basis(v).flatten(1) @ coefficients.flatten(1).T
        return total + self.base(v) @ (self.base_weight * self.base_mask).T

    def basis(self, v: Tensor) -> Tensor:
        """All basis functions (N, I, G+k) at v (N, I). Outside the range they are extrapolated linearly or are zero."""
        knots, order = self.knots, self.order
        count = knots.shape[1] - order - 1
        first, end = knots[:, order], knots[:, count]
        least, most = (first, end) if self.goes_on else (knots[:, 0], knots[:, -1])
        # Not by clamp: at a bound some versions of torch pass the gradient on, others half of it.
        clamped = torch.where(v < least, least, torch.where(v > most, most, v))
        x = clamped[:, :, None]
        # Half-open intervals, so that a knot belongs to one piece; the end of the range belongs to the last piece.
        last = (knots < end[:, None]).sum(dim=1, keepdim=True) - 1
        at_end = torch.arange(knots.shape[1] - 1, device=v.device) == last
        values = torch.where(x == end[:, None], at_end, (knots[:, :-1] <= x) & (x < knots[:, 1:])).to(v.dtype)
        for degree in range(1, order + 1):
            width = knots[:, degree:] - knots[:, :-degree]
            inverse = torch.where(width > 0, 1 / torch.where(width > 0, width, 1.0), 0.0)
            left, right = inverse[:, :-1], inverse[:, 1:]
            rising, falling = (x - knots[:, : -degree - 1]) * left, (knots[:, degree + 1 :] - x) * right
            values = rising * values[..., :-1] + falling * values[..., 1:]
        if not self.goes_on:
            return values
        # Not computed from these knots: the distance of close ones loses digits in float, which matter far outside.
        slopes = torch.where((v < first)[:, :, None], self.ends[:, 0], self.ends[:, 1])
        return values + (v - clamped)[:, :, None] * slopes

    def functions(self, v: Tensor) -> Tensor:
        """The values c·f(a·x + b) + d (N, E) of the named edges."""
        a, b, c, d = self.affine[self.targets, self.sources].unbind(dim=1)
        arguments = torch.split(a * v[:, self.sources] + b, [count for _, count in self.runs], dim=1)
        parts = [_safely(function, x) for (function, _), x in zip(self.runs, arguments, strict=True)]
        values, fine = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return torch.where(fine, c * values + d, torch.nan)


def _safely(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """function(x), and a mask of where it is finite. Elsewhere the value is arbitrary and has no gradient."""
    fine = torch.isfinite(function(x.detach()))
    inside = torch.where(fine, x, INSIDE_EVERY_DOMAIN)
    return function(inside), fine


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _members(arity: list[int]) -> list[list[int]]:
    stops = [sum(arity[: q + 1]) for q in range(len(arity))]
    return [
        [stop - size + n if n < size else stops[-1] for stop, size in zip(stops, arity, strict=True)]
        for n in range(max(arity))
    ]


def _refuse_another_structure(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
    """Refuse another network's state: functions, orders and names are fixed when a module is created."""
    given = state.get(f"{prefix}structure")
    if given is not None and given.tolist() != module.get_buffer("structure").tolist():
        raise ValueError("This state is another network's: make that one with KanNetwork(state).")
