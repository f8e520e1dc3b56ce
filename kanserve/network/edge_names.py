"""Names of nodes and edges, from the user's names of variables: "L/D->h1" instead of (0, 0, 2).

Inputs and outputs have their own names. The nodes of the first hidden layer are h1, h2, …; later layers have their
number before a point: h2.1 is the first node of the second. A factor of a multiplication node has the node's name and
its number, h1:2. So "x->h1:2" leads from input x to the second factor of h1.

If two edges would have the same name, each has the name of its spline in formulas instead: s_1_2_3 leads to sum 2 of
layer 1 from its input 3. This form works for every edge.
"""

import re
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches

from kanserve.errors import InputError, NotFoundError
from kanserve.network.kan import Kan

EdgeIndex = tuple[int, int, int]
"""Layer, subnode and input of an edge, counted from 0."""

_POSITION = re.compile(r"s_([0-9]{1,9})_([0-9]{1,9})_([0-9]{1,9})")
_COMPARED = 5000  # names compared with an unknown one
_SHOWN = 200  # characters of an unknown name


def node_name(kan: Kan, depth: int, q: int) -> str:
    """The name of node q at `depth`: 0 for inputs, len(kan.layers) for outputs."""
    if depth == 0:
        return kan.inputs[q].name
    if depth == len(kan.layers):
        return kan.outputs[q].name
    return f"h{q + 1}" if depth == 1 else f"h{depth}.{q + 1}"


def subnode_names(kan: Kan, layer: int) -> tuple[str, ...]:
    """The names of a layer's subnodes: the node's name, plus the number of the factor if the node is a product."""
    return tuple(
        node_name(kan, layer + 1, q) + (f":{n + 1}" if len(group) > 1 else "")
        for q, group in enumerate(kan.layers[layer].groups)
        for n in range(len(group))
    )


def edge_names(kan: Kan) -> Mapping[EdgeIndex, str]:
    """The name of each edge, including zero edges; names are unique."""
    texts = _texts(kan)
    count = Counter(texts.values())
    return {place: text if count[text] == 1 else _position(place) for place, text in texts.items()}


def place_of(kan: Kan, edge: str) -> EdgeIndex:
    """The place of the edge with this name; spaces around the arrow are ignored, and → is accepted. Raises
    NotFoundError with similar names, InputError if the name is ambiguous."""
    if not isinstance(edge, str):
        raise InputError(f"An edge is called by a text such as 'x->h1', got {edge!r:.80}.")
    if position := _POSITION.fullmatch(edge):
        place: EdgeIndex = tuple(int(group) - 1 for group in position.groups())  # type: ignore[assignment]  # three groups
        layer = kan.layers[place[0]] if 0 <= place[0] < len(kan.layers) else None
        if layer is None or not (0 <= place[1] < layer.subnodes and 0 <= place[2] < layer.inputs):
            raise NotFoundError(f"No edge is called {edge}: s_l_j_i is the edge to sum j of layer l from its input i.")
        return place
    texts = _texts(kan)
    wanted = edge if edge in texts.values() else re.sub(r"\s*(?:->|→)\s*", "->", edge)
    found = [place for place, text in texts.items() if text == wanted]
    if len(found) > 1:
        raise InputError(f"{edge!r} may be {' or '.join(map(_position, found))}: call it so.")
    if not found:
        raise NotFoundError(f"No edge is called {edge[:_SHOWN]!r}.{_nearest(wanted, list(edge_names(kan).values()))}")
    return found[0]


def _texts(kan: Kan) -> dict[EdgeIndex, str]:
    return {
        (depth, j, i): f"{node_name(kan, depth, i)}->{target}"
        for depth, layer in enumerate(kan.layers)
        for j, target in enumerate(subnode_names(kan, depth))
        for i in range(layer.inputs)
    }


def _position(place: EdgeIndex) -> str:
    return "s_" + "_".join(str(index + 1) for index in place)


def _nearest(wanted: str, names: list[str]) -> str:
    """A sentence with the names most similar to an unknown one."""
    source, _, target = wanted[:_SHOWN].rpartition("->")
    related = [name for name in names if (source and name.startswith(f"{source}->")) or name.endswith(f"->{target}")]
    compared = (related or names)[:_COMPARED]
    nearest = get_close_matches(wanted[:_SHOWN], compared, n=5, cutoff=0.0)
    return f" Nearest: {', '.join(name[:_SHOWN] for name in nearest)}."
