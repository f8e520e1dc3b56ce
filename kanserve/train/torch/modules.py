"""A network as a torch module: spline and symbolic edges with the values of `network.evaluate.evaluate`, and gradients.

With compiled kernels, a layer's splines are one operator (`operators.layer`). Without them plain torch gives the same
numbers, more slowly. Rows are then the last axis, (features, rows), so that every operation is one long pass over
memory, and one product of all basis functions with the coefficients computes a layer.

Gradients are finite wherever the network is: a NaN row passes none back, and an edge passes none where its function
has no finite slope, such as a root at 0. Second derivatives work too.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, MissingDependencyError
from kanserve.formula.printing.unfolding import text_in_x
from kanserve.network import dual_numbers
from kanserve.network.encoding import is_encoded
from kanserve.network.expression import Expr
from kanserve.network.functions import function
from kanserve.network.kan import Kan, Layer
from kanserve.network.own_functions import OWN, by_values
from kanserve.train.torch import basis_tensor, network, operators
from kanserve.train.torch.kernels import has_kernels
from kanserve.train.torch.network import encode

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

INSIDE_EVERY_DOMAIN = 0.5
AFFINE = ("subnode_scale", "subnode_bias", "node_scale", "node_bias")
PARAMETERS = ("coefficients", "base_weight", "affine", *AFFINE)


def _function(name: str) -> Callable[[Tensor], Tensor]:
    if by_values(name):
        return values_of(name)
    return _register(function(name).expression) if name in OWN else network.function(name)


@lru_cache
def _register(expression: Expr) -> Callable[[Tensor], Tensor]:
    # The text of a parsed expression: no user input gets here.
    found: Callable[[Tensor], Tensor] = eval(f"lambda x: {text_in_x(expression, 'torch')}", vars(network))
    return found


class KanModule(nn.Module):
    """A whole network from raw features (..., inputs) to raw outputs (..., outputs), for a classifier scores. A row
    with anything not finite is NaN in all outputs. Parameters can be trained; grids, functions, names, shifts and
    scales are those of `structure`."""

    input_shift: Tensor
    input_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor

    def __init__(self, kan: Kan, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.structure = kan
        self.layers = nn.ModuleList(KanLayer(layer, dtype, device) for layer in kan.layers)
        for name in ("input_shift", "input_scale", "output_shift", "output_scale"):
            values = torch.tensor(getattr(kan, name)[:, None], dtype=dtype, device=device)
            self.register_buffer(name, values, persistent=False)
        self._encodings = {
            i: (variable.fill_value, variable.categories, variable.category_values)
            for i, variable in enumerate(kan.inputs)
            if is_encoded(variable)
        }
        self._shifts_inputs = bool(kan.input_shift.any() or (kan.input_scale != 1).any())
        self._shifts_outputs = bool(kan.output_shift.any() or (kan.output_scale != 1).any())

    def forward(self, x: Tensor) -> Tensor:
        return self._through(x, None)

    def with_edges(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The outputs, and the values (O, I, N) of every edge of each layer, with all leading axes of x as N.
        Non-finite values count as 0 in the next layer."""
        edges: list[Tensor] = []
        outputs = self._through(x, edges)
        return outputs, tuple(edges)

    def each(self) -> list["KanLayer"]:
        return [layer for layer in self.layers if isinstance(layer, KanLayer)]

    def _through(self, x: Tensor, edges: list[Tensor] | None) -> Tensor:
        inputs = len(self.input_shift)
        if x.ndim == 0 or x.shape[-1] != inputs:
            raise DataError(f"Rows must have shape (..., {inputs}), got {tuple(x.shape)}.")
        v = encode(x.reshape(-1, inputs).to(self.input_shift.dtype), self._encodings)
        if self._shifts_inputs:
            v = (v - self.input_shift.T) / self.input_scale.T
        if edges is None and has_kernels(v):
            layers = self.each()
            if all(layer.fused for layer in layers):
                v = operators.chain(v, [layer.arguments() for layer in layers])
            else:
                for layer in layers:
                    v = layer(v)
        else:
            v = self._plainly(v.T, edges).T
        if self._shifts_outputs:
            v = self.output_scale.T * v + self.output_shift.T
            v = torch.where(torch.isfinite(v).all(dim=1, keepdim=True), v, torch.nan)
        return v.reshape(*x.shape[:-1], v.shape[1])

    def _plainly(self, v: Tensor, edges: list[Tensor] | None) -> Tensor:
        """The last layer's nodes from the first layer's inputs in plain torch; rows are the last axis of both."""
        fine = torch.isfinite(v).all(dim=0)
        for layer in self.each():
            # 0 in place of values that are not finite, so that no gradient of such a row is 0·infinity.
            v = torch.where(fine, v, 0.0)
            if edges is None:
                v = layer.nodes(layer.sums(v))
            else:
                edges.append(layer.edges(v))
                v = layer.nodes(edges[-1].sum(dim=1))
            fine = fine & torch.isfinite(v).all(dim=0)
        return torch.where(fine, v, torch.nan)


class KanLayer(nn.Module):
    """One layer: inputs (N, I) to nodes (N, Q); a row with anything not finite becomes NaN. Parameters have the shapes
    of `kan.Layer`. Masks keep pruned edges pruned, and base weights of 0 at 0."""

    coefficients: nn.Parameter
    base_weight: nn.Parameter
    affine: nn.Parameter
    subnode_scale: nn.Parameter
    subnode_bias: nn.Parameter
    node_scale: nn.Parameter
    node_bias: nn.Parameter
    table: Tensor  # (I, R), see `basis_tensor.table_of`
    spline_mask: Tensor  # (O, I, 1)
    base_mask: Tensor  # (O, I)
    targets: Tensor  # (E,), j of the symbolic edges, sorted by function
    sources: Tensor  # (E,), i
    members: Tensor  # (arity, Q), the subnodes of each node; index O stands for a factor of 1

    def __init__(self, layer: Layer, dtype: torch.dtype, device: torch.device | str) -> None:
        super().__init__()
        self.structure = layer

        def floats(values: NDArray[np.float64]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        for name in ("coefficients", "base_weight", "affine", "subnode_bias", "node_bias"):
            self.register_parameter(name, nn.Parameter(floats(getattr(layer, name))))
        for name in ("subnode_scale", "node_scale"):  # redundant: the edges contain them
            self.register_parameter(name, nn.Parameter(floats(getattr(layer, name)), requires_grad=False))
        places = _symbolic_places(layer)
        buffers = {
            "table": floats(basis_tensor.table_of(layer)),
            "spline_mask": torch.tensor(layer.spline_mask[:, :, None], device=device),
            "base_mask": torch.tensor(layer.base_weight != 0, device=device),
            "targets": torch.tensor(places[:, 0], device=device),
            "sources": torch.tensor(places[:, 1], device=device),
            "members": torch.tensor(_members(layer), device=device),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=False)
        self._has_splines = bool(self.spline_mask.any())
        self._has_base = layer.base != "zero" and bool(self.base_mask.any())
        self._keeps_all = bool(self.spline_mask.all()) and (not self._has_base or bool(self.base_mask.all()))
        self._base = operators.BASES[layer.base]
        self._count = layer.coefficients.size
        names = layer.functions[tuple(places.T)].tolist()
        self._runs = [(name, names.index(name), names.count(name)) for name in dict.fromkeys(names)]
        # Whether the layer is one operator: spline edges and sum nodes only.
        self.fused = self._has_splines and not self._runs and layer.nodes == layer.subnodes
        # Redundant in sum nodes: the bias of the only subnode does the same as the node's bias.
        self.subnode_bias.requires_grad_(layer.nodes != layer.subnodes)

    def forward(self, v: Tensor) -> Tensor:
        if self.fused:
            return operators.chain(v, [self.arguments()])
        fine = torch.isfinite(v).all(dim=1, keepdim=True)
        v = torch.where(fine, v, 0.0)
        if self._has_splines:
            z = operators.chain(v, [self.arguments(sums=True)]).T
        else:
            z = v.new_zeros(self.structure.subnodes, len(v))
        if self._runs:
            z = z.index_add(0, self.targets, self.symbolic(v.T))
        y = self.nodes(z).T
        return torch.where(fine & torch.isfinite(y).all(dim=1, keepdim=True), y, torch.nan)

    def arguments(self, sums: bool = False) -> operators.Arguments:
        """The arguments of `operators.chain`, for the nodes of a fused layer or for the sums of its spline edges."""
        own: dict[str, Any] = self._parameters  # attribute look-up takes as long as a small kernel
        if len(own) < len(PARAMETERS):  # torch.nn.utils.parametrize turns them into attributes
            own = {name: getattr(self, name) for name in PARAMETERS}
        coefficients, base_weight = own["coefficients"], own["base_weight"] if self._has_base else None
        if coefficients.numel() != self._count:  # kernels take their number from the grid
            wanted = self.structure.coefficients.shape
            raise DataError(f"This layer's coefficients have shape {wanted}, got {tuple(coefficients.shape)}.")
        if not self._keeps_all:
            coefficients = coefficients * self.spline_mask
            base_weight = None if base_weight is None else base_weight * self.base_mask
        scales = (None, None, None, None) if sums else [own[name] for name in AFFINE]
        return coefficients, base_weight, self.table, *scales, self.structure.order, self._base

    def sums(self, v: Tensor) -> Tensor:
        """The sums (O, N) of the edges into each subnode, from values (I, N), in plain torch."""
        z = v.new_zeros(self.structure.subnodes, v.shape[1])
        if self._has_splines:
            coefficients = self.coefficients * self.spline_mask
            z = z + coefficients.flatten(1) @ self.basis(v).flatten(0, 1)
        if self._has_base:
            z = z + (self.base_weight * self.base_mask) @ self.base(v)
        if self._runs:
            z = z.index_add(0, self.targets, self.symbolic(v))
        return z

    def edges(self, v: Tensor) -> Tensor:
        """The values (O, I, N) of every edge."""
        outputs, inputs = self.structure.base_weight.shape
        total = v.new_zeros(outputs, inputs, v.shape[1])
        if self._has_splines:
            total = total + ((self.coefficients * self.spline_mask).transpose(0, 1) @ self.basis(v)).transpose(0, 1)
        if self._has_base:
            total = total + (self.base_weight * self.base_mask)[:, :, None] * self.base(v)
        if self._runs:
            flat = total.flatten(0, 1).index_add(0, self.targets * inputs + self.sources, self.symbolic(v))
            total = flat.view_as(total)
        return total

    def basis(self, v: Tensor) -> Tensor:
        """All basis functions (I, G+k, N) at v (I, N), also outside the range."""
        return basis_tensor.basis(v, self.table, self.structure.order, self.structure.coefficients.shape[2])

    def base(self, v: Tensor) -> Tensor:
        return nn.functional.silu(v) if self.structure.base == "silu" else v

    def symbolic(self, v: Tensor) -> Tensor:
        """The values c·f(a·x + b) + d (E, N) of the symbolic edges, in the order of `targets` and `sources`."""
        a, b, c, d = self.affine[self.targets, self.sources].T[:, :, None]
        arguments = a * v[self.sources] + b
        runs = [_safely(_function(name), arguments[start : start + count]) for name, start, count in self._runs]
        values, fine = (torch.cat(parts) for parts in zip(*runs, strict=True))
        return torch.where(fine, c * values + d, torch.nan)

    def nodes(self, sums: Tensor) -> Tensor:
        """The nodes (Q, N) from the sums (O, N) of the edges into each subnode."""
        z = self.subnode_scale[:, None] * sums + self.subnode_bias[:, None]
        if len(self.members) > 1:
            z = torch.cat([z, z.new_ones(1, z.shape[1])])
            product = z[self.members[0]]
            for factor in self.members[1:]:
                product = product * z[factor]
            z = product
        result: Tensor = self.node_scale[:, None] * z + self.node_bias[:, None]
        return result

    def layer(self) -> Layer:
        """The layer with the present parameters."""

        def array(values: Tensor) -> NDArray[np.float64]:
            return np.asarray(values.detach().to("cpu", torch.float64).numpy())

        return replace(
            self.structure,
            coefficients=array(self.coefficients * self.spline_mask),
            base_weight=array(self.base_weight * self.base_mask),
            affine=array(self.affine),
            subnode_scale=array(self.subnode_scale),
            subnode_bias=array(self.subnode_bias),
            node_scale=array(self.node_scale),
            node_bias=array(self.node_bias),
        )


class _FiniteGradient(torch.autograd.Function):
    """The identity, except that a non-finite gradient becomes 0 in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        """Saves nothing; torch's function transforms require this method."""

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        return torch.where(torch.isfinite(gradient), gradient, 0.0)

    @staticmethod
    def jvp(_context: object, tangent: Tensor) -> Tensor:
        return torch.where(torch.isfinite(tangent), tangent, 0.0)


def _safely(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """function(x), and a mask of where it is finite. Elsewhere the value is arbitrary and has no gradient."""
    fine = torch.isfinite(function(x.detach()))
    # The branch not taken must be finite too: torch multiplies its gradient by 0 instead of leaving it out.
    inside = torch.where(fine, x, INSIDE_EVERY_DOMAIN)
    passed: Tensor = _FiniteGradient.apply(inside)  # type: ignore[no-untyped-call, unused-ignore]  # torch < 2.15 gives it no types
    return function(passed), fine


def _symbolic_places(layer: Layer) -> NDArray[np.int64]:
    """j and i (E, 2) of the symbolic edges, sorted by function."""
    places = np.argwhere(layer.symbolic_mask)
    return places[np.argsort(layer.functions[tuple(places.T)], kind="stable")]


def _members(layer: Layer) -> NDArray[np.int64]:
    members = np.full((int(layer.arity.max()), layer.nodes), layer.subnodes)
    for q, group in enumerate(layer.groups):
        members[: len(group), q] = group
    return members


def values_of(name: str) -> Callable[[Tensor], Tensor]:
    """A torch function that takes values and derivatives from the table of functions."""

    def values(x: Tensor) -> Tensor:
        result: Tensor = _Derivative.apply(x, name, 0)
        return result

    return values


class _Derivative(torch.autograd.Function):
    """The derivative of a function, of a given order; its gradient is the next derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, order: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.name, ctx.order = name, order
        numbers = x.detach().to("cpu", torch.float64).numpy()
        with np.errstate(all="ignore"):
            values = dual_numbers.derivatives(function(name), numbers, order)[-1]
        return torch.from_numpy(np.array(values, np.float64)).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * _Derivative.apply(x, ctx.name, ctx.order + 1), None, None


def to_module(kan: Kan, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> KanModule:
    """The network as a module on `device`, for rows with any leading shape."""
    return KanModule(kan, dtype, device)


def from_module(module: KanModule) -> Kan:
    """The network with the module's present parameters; equal to the original if none has changed. NaN or infinite
    parameters raise NetworkError."""
    layers = tuple(layer.layer() for layer in module.each())
    return replace(module.structure, layers=layers)
