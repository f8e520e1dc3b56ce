"""`KANLayer`: a layer of splines for torch's own training loops, on the kernels that `fit` uses.

A layer of in_features I and out_features O has one spline, and one base function, on each of its O·I edges:

    y[n, o] = Σ_i (base_weight[o, i]·base(x[n, i]) + Σ_m coefficients[o, i, m]·B_m(x[n, i]; knots[i]))

which is Liu et al., "KAN: Kolmogorov-Arnold Networks" (arXiv:2404.19756), equation 2.10 without its redundant factor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, MissingDependencyError, NetworkError
from kanserve.network.kan import Base, Kan, Layer, make_layer
from kanserve.network.splines import Extrapolation, uniform_knots
from kanserve.train import grids
from kanserve.train.argument_checks import whole
from kanserve.train.creation import CREATION_SPREAD
from kanserve.train.torch import operators
from kanserve.train.torch.basis_tensor import table_of

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingDependencyError("torch", "torch") from None


class KANLayer(nn.Module):
    """A layer of splines: a drop-in for `torch.nn.Linear` and for the layers of other KAN libraries.

    On a CPU a forward and a backward pass are one compiled kernel each, in float32 and float64; other devices use plain
    torch. Derivatives of every order are available, also outside the grid. Under autocast it computes in the type of
    its weights. A row in which anything is not finite is NaN and passes no gradient back.

    Parameters
    ----------
    in_features, out_features : int
        Inputs and outputs.
    grid : int, default=5
        Intervals of each spline.
    order : int, default=3
        Order of the splines; 3 is cubic.
    base : {"silu", "identity", "zero"}, default="silu"
        What each edge has beside its spline.
    grid_range : (float, float), default=(-1, 1)
        The range of the grid. `set_grid` fits it to data.
    extrapolation : {"linear", "zero"}, default="linear"
        How a spline goes on outside its range; "zero" is what most other libraries do.
    device, dtype : optional
        As for `torch.nn.Linear`.

    Attributes
    ----------
    coefficients : Parameter of shape (out_features, in_features, grid + order)
        Weights of the basis functions.
    base_weight : Parameter of shape (out_features, in_features)
        Weights of the base function.
    knots : Tensor of shape (in_features, grid + 2*order + 1)
        The grid of each input, with `order` knots on either side of its range, in double. It is in the state_dict, as
        "_extra_state".

    Raises
    ------
    NetworkError
        A size is not a whole number from 1 on, or an option is unknown.

    Examples
    --------
    >>> import torch, kanserve.nn
    >>> model = torch.nn.Sequential(kanserve.nn.KANLayer(784, 64), kanserve.nn.KANLayer(64, 10))
    >>> model(torch.zeros(32, 784)).shape
    torch.Size([32, 10])
    >>> layer = kanserve.nn.KANLayer(2, 3, grid=5, order=3)
    >>> layer.in_features, layer.out_features, layer.grid, tuple(layer.knots.shape)
    (2, 3, 5, (2, 12))
    """

    coefficients: nn.Parameter
    base_weight: nn.Parameter
    table: Tensor  # the grids as `operators.layer` takes them

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        grid: int = 5,
        order: int = 3,
        base: Base = "silu",
        grid_range: tuple[float, float] = (-1.0, 1.0),
        extrapolation: Extrapolation = "linear",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features), ("grid", grid)):
            if not whole(size, 1):
                raise NetworkError(f"{name} must be a whole number from 1 on, got {size!r}.")
        if not whole(order, 1):
            raise NetworkError(f"order must be a whole number from 1 on, got {order!r}.")
        low, high = (float(end) for end in grid_range)
        if not (np.isfinite([low, high]).all() and low < high):
            raise NetworkError(f"grid_range must be two finite numbers, the lower one first; got {grid_range!r}.")
        self._hold(
            make_layer(
                np.zeros((out_features, in_features, grid + order)),
                knots=uniform_knots(low, high, grid, order),
                order=order,
                base=base,
                extrapolation=extrapolation,
            ),
            device,
            dtype,
        )
        self.reset_parameters()

    @classmethod
    def from_layer(
        cls, layer: Layer, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "KANLayer":
        """The layer of a network whose edges are all splines and whose nodes are all sums.

        Parameters
        ----------
        layer : Layer
            One of `Kan.layers`.
        device, dtype : optional
            As for `torch.nn.Linear`.

        Returns
        -------
        KANLayer
            It has copies of the layer's weights and knots.

        Raises
        ------
        NetworkError
            The layer has functions, products or pruned edges, or scales its nodes: `kanserve.to_torch` takes those.

        Examples
        --------
        >>> import kanserve, kanserve.nn
        >>> kan = kanserve.create([2, 5, 1], grid=5)
        >>> kanserve.nn.KANLayer.from_layer(kan.layers[0])
        KANLayer(2, 5, grid=5, order=3, base='silu')
        """
        plain = make_layer(
            layer.coefficients,
            knots=layer.knots,
            order=layer.order,
            base=layer.base,
            base_weight=layer.base_weight,
            extrapolation=layer.extrapolation,
        )
        neutral = ("subnode_scale", "subnode_bias", "node_scale", "node_bias")
        same = all(np.array_equal(getattr(layer, name), getattr(plain, name)) for name in neutral)
        if layer.symbolic_mask.any() or not layer.spline_mask.all() or layer.nodes != layer.subnodes or not same:
            raise NetworkError(
                "A KANLayer has a spline on every edge and nodes that only add; this layer has functions, products, "
                "pruned edges, scales or biases. kanserve.to_torch(kan) makes a module of any network."
            )
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._hold(layer, device, dtype)
        return made

    def _hold(self, layer: Layer, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        numbers = torch.get_default_dtype() if dtype is None else dtype

        def floats(values: NDArray[np.float64]) -> Tensor:
            return torch.tensor(values, dtype=numbers, device=device)

        self.order, self.base, self.extrapolation = layer.order, layer.base, layer.extrapolation
        self.coefficients = nn.Parameter(floats(layer.coefficients))
        self.base_weight = nn.Parameter(floats(layer.base_weight), requires_grad=layer.base != "zero")
        self._knots = layer.knots  # in double for weights of every type: float steps are not equal
        self.register_buffer("table", floats(table_of(layer)), persistent=False)

    @property
    def in_features(self) -> int:
        """The number of inputs."""
        return int(self.base_weight.shape[1])

    @property
    def out_features(self) -> int:
        """The number of outputs."""
        return int(self.base_weight.shape[0])

    @property
    def knots(self) -> Tensor:
        """A copy of the knots (in_features, grid + 2*order + 1), in double precision on the CPU."""
        return torch.tensor(self._knots)

    @property
    def grid(self) -> int:
        """The number of intervals of each spline."""
        return int(self.coefficients.shape[2]) - self.order

    def reset_parameters(self) -> None:
        """Random weights from torch's generator: coefficients and base weights of deviation 0.3 / sqrt(in_features).

        Examples
        --------
        >>> import torch, kanserve.nn
        >>> layer = kanserve.nn.KANLayer(2, 1)
        >>> before = layer.coefficients.clone()
        >>> layer.reset_parameters()
        >>> torch.equal(layer.coefficients, before)
        False
        """
        spread = CREATION_SPREAD / self.in_features**0.5
        with torch.no_grad():
            self.coefficients.normal_(0.0, spread)
            self.base_weight.normal_(0.0, spread if self.base != "zero" else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., out_features) for inputs (..., in_features), in the type of the weights.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)
            Inputs, on the device of the weights.

        Returns
        -------
        Tensor of shape (..., out_features)
            A row in which anything is not finite is NaN.

        Raises
        ------
        DataError
            The last dimension of `x` is not in_features.

        Examples
        --------
        >>> import torch, kanserve.nn
        >>> layer = kanserve.nn.KANLayer(2, 3)
        >>> layer(torch.zeros(7, 4, 2)).shape
        torch.Size([7, 4, 3])
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise DataError(f"A layer of {self.in_features} inputs takes (..., {self.in_features}), got {(*x.shape,)}.")
        with torch.autocast(x.device.type, enabled=False):
            weight = None if self.base == "zero" else self.base_weight
            scales = (None, None, None, None)
            arguments = (self.coefficients, weight, self.table, *scales, self.order, operators.BASES[self.base])
            return operators.chain(x.to(self.coefficients.dtype), [arguments])

    def set_grid(self, x: Tensor | None = None, grid: int | None = None) -> None:
        """Move the grid to the range of the rows x, or refine it, so that the splines stay as they are or nearly so.

        On a grid that contains the old one, as on 10 intervals instead of 5, they stay the same. Make optimisers anew
        after it: the parameters are other ones.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_features), optional
            Rows whose range the grid takes.
        grid : int, optional
            The new number of intervals.

        Raises
        ------
        DataError
            No row is finite.
        NetworkError
            `grid` is below 1.

        Examples
        --------
        >>> import torch, kanserve.nn
        >>> layer = kanserve.nn.KANLayer(2, 1)
        >>> layer.set_grid(grid=10)
        >>> layer.coefficients.shape
        torch.Size([1, 2, 13])
        """
        kan = Kan((self.to_layer(),))
        if x is not None:
            kan = grids.set_ranges(kan, x.detach().reshape(-1, self.in_features).cpu().double().numpy())
        if grid is not None:
            kan = grids.regrid(kan, None, grid)
        own = self.coefficients
        kept = own.requires_grad
        self._hold(kan.layers[0], own.device, own.dtype)
        self.coefficients.requires_grad_(kept)

    def to_layer(self) -> Layer:
        """The layer with its present weights, in double: one of a `kanserve.Kan`.

        Returns
        -------
        Layer
            Copies of the weights and the knots.

        Examples
        --------
        >>> import kanserve.nn
        >>> kanserve.nn.KANLayer(2, 3).to_layer().coefficients.shape
        (3, 2, 8)
        """

        def array(values: Tensor) -> NDArray[np.float64]:
            return np.asarray(values.detach().to("cpu", torch.float64).numpy())

        return make_layer(
            array(self.coefficients),
            knots=self._knots,
            order=self.order,
            base=self.base,
            base_weight=array(self.base_weight),
            extrapolation=self.extrapolation,
        )

    def extra_repr(self) -> str:
        """What torch prints of the layer in brackets.

        Returns
        -------
        str
            Its sizes, grid, order and base.

        Examples
        --------
        >>> import kanserve.nn
        >>> kanserve.nn.KANLayer(2, 3).extra_repr()
        "2, 3, grid=5, order=3, base='silu'"
        """
        return f"{self.in_features}, {self.out_features}, grid={self.grid}, order={self.order}, base={self.base!r}"

    def get_extra_state(self) -> Tensor:
        """The knots, which torch's `state_dict` stores: torch calls this method, and `set_extra_state`.

        Returns
        -------
        Tensor of shape (in_features, grid + 2*order + 1)
            A copy, in double.

        Examples
        --------
        >>> import kanserve.nn
        >>> kanserve.nn.KANLayer(2, 3).state_dict()["_extra_state"].shape
        torch.Size([2, 12])
        """
        return self.knots

    def set_extra_state(self, state: Tensor) -> None:
        """Take the knots of a state_dict: torch's `load_state_dict` calls it.

        Parameters
        ----------
        state : Tensor of shape (in_features, grid + 2*order + 1)
            The knots, as `get_extra_state` gives them.

        Raises
        ------
        NetworkError
            The knots have another shape, as those of a layer of another grid.

        Examples
        --------
        >>> import kanserve.nn
        >>> wide, other = kanserve.nn.KANLayer(2, 3, grid_range=(0, 10)), kanserve.nn.KANLayer(2, 3)
        >>> other.set_extra_state(wide.get_extra_state())
        >>> other.knots[0, 3].item(), other.knots[0, 8].item()
        (0.0, 10.0)
        """
        if state.shape != self._knots.shape:
            raise NetworkError(
                f"This layer's knots have shape {self._knots.shape}, those of the state {(*state.shape,)}."
            )
        self._knots = state.cpu().double().numpy().copy()
        self._set_table()

    def _set_table(self) -> None:
        with torch.no_grad():
            self.table = torch.as_tensor(table_of(self.to_layer()), dtype=self.table.dtype, device=self.table.device)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> "KANLayer":
        before = self.table.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch gives it no types
        if self.table.dtype != before:  # a table in float has no digits to give to one in double
            self._set_table()
        return self
