"""What nodes and edges are called, by the user's own names: "L/D->h1" instead of (0, 0, 2).

Inputs and outputs have their names. The nodes of the first hidden layer are h1, h2, …; those of a later one have the
layer before a point: h2.1 is the first node of the second. A sum that a multiplication node multiplies is the node's
name and its place in the product, h1:2. So "x->h1:2" leads from input x to the second factor of h1.

An edge whose text another one has too (names may be anything) is called as formulas call its spline: s_1_2_3 leads
to sum 2 of layer 1 from its input 3. Every edge can be addressed so.
"""

import re
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches

from kanserve.errors import InputError, NotFoundError
from kanserve.network.kan import Kan

EdgeIndex = tuple[int, int, int]
"""Layer, subnode, input: where an edge is, counted from 0."""

_POSITION = re.compile(r"s_([0-9]{1,9})_([0-9]{1,9})_([0-9]{1,9})")
_COMPARED = 5000  # names that an unknown one is compared with
_SHOWN = 200  # characters of an unknown name


def node_name(kan: Kan, depth: int, q: int) -> str:
    """Node q of the layer of nodes `depth`, where 0 are the inputs and len(kan.layers) the outputs."""
    if depth == 0:
        return kan.inputs[q].name
    if depth == len(kan.layers):
        return kan.outputs[q].name
    return f"h{q + 1}" if depth == 1 else f"h{depth}.{q + 1}"


def subnode_names(kan: Kan, layer: int) -> tuple[str, ...]:
    """The sums of a layer: a node's name, with the place in the product where the node multiplies several."""
    return tuple(
        node_name(kan, layer + 1, q) + (f":{n + 1}" if len(group) > 1 else "")
        for q, group in enumerate(kan.layers[layer].groups)
        for n in range(len(group))
    )


def edge_names(kan: Kan) -> Mapping[EdgeIndex, str]:
    """What each edge is called, those that are zero included; no two alike."""
    texts = _texts(kan)
    count = Counter(texts.values())
    return {place: text if count[text] == 1 else _position(place) for place, text in texts.items()}


def place_of(kan: Kan, edge: str) -> EdgeIndex:
    """Where the edge of this name is. NotFoundError with the nearest names, InputError where the name fits several.

    Spaces around the arrow do not matter, and → is an arrow too.
    """
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
    """A sentence with the names that are most like one that nothing has."""
    source, _, target = wanted[:_SHOWN].rpartition("->")
    related = [name for name in names if (source and name.startswith(f"{source}->")) or name.endswith(f"->{target}")]
    compared = (related or names)[:_COMPARED]
    nearest = get_close_matches(wanted[:_SHOWN], compared, n=5, cutoff=0.0)
    return f" Nearest: {', '.join(name[:_SHOWN] for name in nearest)}."
