"""`KAN`: a network of `KANLayer`s for torch's own training loops, convertible to a `kanserve` network."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from kanserve.errors import MissingDependencyError, NetworkError
from kanserve.network.kan import Kan

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

from kanserve.train.torch.spline_layer import KANLayer


class KAN(nn.Sequential):
    """A network of `KANLayer`s, to train in a torch loop and to turn into a `kanserve.Kan`.

    Parameters
    ----------
    shape : sequence of int
        Inputs, then the nodes of each layer: [2, 5, 1].
    **options
        Those of each `KANLayer`: grid, order, base, grid_range, extrapolation, device, dtype.

    Raises
    ------
    NetworkError
        A width is not a whole number from 1 on, or there are fewer than two.

    Examples
    --------
    >>> import torch, kanserve.nn
    >>> model = kanserve.nn.KAN([2, 5, 1], grid=8)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> model.to_kan().shape
    (2, 5, 1)
    """

    def __init__(self, shape: Sequence[int], **options: Any) -> None:
        if len(shape) < 2:
            raise NetworkError(f"A network has inputs and at least one layer, such as [2, 5, 1]; got {shape!r}.")
        super().__init__(*(KANLayer(inputs, outputs, **options) for inputs, outputs in pairwise(shape)))

    @classmethod
    def from_kan(cls, kan: Kan, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "KAN":
        """A network all of splines and sums, as `kanserve.create` makes and `kanserve.fit` trains, as a module.

        Parameters
        ----------
        kan : Kan
            The network.
        device, dtype : optional
            As for `torch.nn.Linear`.

        Returns
        -------
        KAN
            Its values are those of `kanserve.evaluate`, up to the rounding of `dtype`.

        Raises
        ------
        NetworkError
            It scales its inputs or outputs, or `KANLayer.from_layer` does not take a layer.

        Examples
        --------
        >>> import torch, kanserve, kanserve.nn
        >>> kan = kanserve.create([2, 5, 1])
        >>> model = kanserve.nn.KAN.from_kan(kan, dtype=torch.float64)
        >>> x = torch.rand(10, 2, dtype=torch.float64)
        >>> float(abs(model(x).detach().numpy() - kan(x.numpy())).max()) < 1e-12
        True
        """
        neutral = ((kan.input_shift, 0), (kan.input_scale, 1), (kan.output_shift, 0), (kan.output_scale, 1))
        if any((values != value).any() for values, value in neutral):
            raise NetworkError(
                "This network scales its inputs or outputs, which a KAN of kanserve.nn does not. "
                "kanserve.to_torch(kan) makes a module of any network."
            )
        made = cls.__new__(cls)
        nn.Sequential.__init__(made, *(KANLayer.from_layer(layer, device=device, dtype=dtype) for layer in kan.layers))
        return made

    def to_kan(self) -> Kan:
        """The network with its present weights, as everything else in kanserve takes it.

        Returns
        -------
        Kan
            Copies of the weights and the knots, in double.

        Raises
        ------
        NetworkError
            A layer was replaced by one that is not a KANLayer.

        Examples
        --------
        >>> import kanserve.nn
        >>> kanserve.nn.KAN([2, 5, 1]).to_kan().shape
        (2, 5, 1)
        """
        return kan_of(self)

    def set_grids(self, x: Tensor, grid: int | None = None) -> None:
        """`KANLayer.set_grid` from the first layer to the last, each on the outputs of those before it.

        Make optimisers anew after it: the parameters are other ones.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_features)
            Rows, of which and of whose hidden values the grids take the ranges.
        grid : int, optional
            The new number of intervals; by default they stay.

        Raises
        ------
        DataError
            No row is finite.
        NetworkError
            `grid` is below 1.

        Examples
        --------
        >>> import torch, kanserve.nn
        >>> model = kanserve.nn.KAN([2, 5, 1])
        >>> model.set_grids(100 * torch.rand(1000, 2), grid=10)
        >>> [layer.grid for layer in model]
        [10, 10]
        """
        for layer in self.children():
            assert isinstance(layer, KANLayer)
            layer.set_grid(x, grid)
            with torch.no_grad():
                x = layer(x)


def kan_of(layers: Iterable[nn.Module]) -> Kan:
    """The network of a KAN, or of a torch.nn.Sequential of KANLayers alone.

    Parameters
    ----------
    layers : iterable of KANLayer
        The layers in their order, such as a KAN or a torch.nn.Sequential.

    Returns
    -------
    Kan
        The network with the present weights.

    Raises
    ------
    NetworkError
        A layer is not a KANLayer.

    Examples
    --------
    >>> import torch, kanserve.nn
    >>> model = torch.nn.Sequential(kanserve.nn.KANLayer(2, 5), kanserve.nn.KANLayer(5, 1))
    >>> kanserve.nn.kan_of(model).shape
    (2, 5, 1)
    """
    found = []
    for number, layer in enumerate(layers):
        if not isinstance(layer, KANLayer):
            raise NetworkError(f"Layer {number + 1} is a {type(layer).__name__}, not a KANLayer: no KAN has it.")
        found.append(layer.to_layer())
    return Kan(tuple(found))
