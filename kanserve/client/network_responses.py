"""A served network for drawing, as a client gets it: plain, immutable data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Variable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge from a node of the previous layer (or an input) to a subnode, with its curve in the layer's units.

    Parameters
    ----------
    source, target : int
        The numbers of the node, or input, and of the subnode.
    kind : {"spline", "symbolic", "sum", "zero"}
        What it computes; "sum" is a spline and a function.
    function : str
        The function's name.
    affine : tuple of 4 float
        a, b, c, d of c·function(a·x + b) + d.
    share : float
        Its share of the signal.
    x, y : ndarray
        Points of the curve.

    Examples
    --------
    >>> edge = client.network("line").edges[0]
    >>> edge.kind, edge.function, edge.affine
    ('symbolic', 'x', (1.0, 0.0, 2.0, 1.0))
    >>> edge.y[[0, -1]].tolist()
    [1.0, 3.0]
    """

    source: int
    target: int
    kind: str
    function: str
    affine: tuple[float, float, float, float]
    share: float
    x: Array
    y: Array


@dataclass(frozen=True)
class Node:
    """A node of a layer: scale · (the product of its subnodes) + bias.

    Parameters
    ----------
    name : str
        Such as "h1", or that of an output.
    subnodes : tuple of int
        Their numbers; one for a node that only adds.
    scale, bias : float
        Its affine map.

    Examples
    --------
    >>> client.network("line").layers[-1].nodes
    (Node(name='y', subnodes=(0,), scale=1.0, bias=0.0),)
    """

    name: str
    subnodes: tuple[int, ...]
    scale: float
    bias: float


@dataclass(frozen=True)
class NetworkLayer:
    """The edges of a layer, and the nodes that they lead to.

    Parameters
    ----------
    nodes : tuple of Node
        The nodes.
    subnodes : tuple of (float, float)
        The scale and the bias of each subnode.
    edges : tuple of Edge
        The edges to the subnodes.

    Examples
    --------
    >>> layer = client.network("line").layers[0]
    >>> len(layer.edges), layer.subnodes
    (1, ((1.0, 0.0),))
    """

    nodes: tuple[Node, ...]
    subnodes: tuple[tuple[float, float], ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A network for drawing, as `Client.network` returns it.

    Parameters
    ----------
    name : str
        The model's name.
    version : int
        Its version.
    inputs, outputs, classes : tuple of str
        Names.
    input_variables, output_variables : tuple of Variable
        With units and ranges.
    layers : tuple of NetworkLayer
        From the inputs on.
    input_affine, output_affine : (ndarray, ndarray)
        The shift and the scale of each input, and of each output.

    Examples
    --------
    >>> network = client.network("line")
    >>> network.inputs, network.outputs, len(network.layers)
    (('x',), ('y',), 1)
    >>> [(edge.source, edge.target, edge.function) for edge in network.edges]
    [(0, 0, 'x')]
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    input_variables: tuple[Variable, ...]
    output_variables: tuple[Variable, ...]
    layers: tuple[NetworkLayer, ...]
    input_affine: tuple[Array, Array]
    output_affine: tuple[Array, Array]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of all layers."""
        return tuple(edge for layer in self.layers for edge in layer.edges)
