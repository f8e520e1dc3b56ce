"""The settings that pykan writes beside a network, a YAML file, as plain data.

The file is read as a stream of events, and nothing in it is ever constructed: what carries a tag of an object, as the
files of pruned inputs do, becomes an `Opaque` that only says the tag. Depth, length and what aliases expand to are
bounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kanserve.errors import CheckpointError, MissingDependencyError

LARGEST = 16 << 20  # bytes of a file; a network of a million edges has half of it
DEEPEST = 30
MOST_VALUES = 4 << 20  # with each alias counted for what it stands for
LONGEST_SCALAR = 1000

_CORE = "tag:yaml.org,2002:"
_LISTS = (_CORE + "seq", _CORE + "python/tuple")


@dataclass(frozen=True)
class Opaque:
    """What stood where a Python object was to be made: its tag, as in "python/object:torch.nn.modules.…SiLU"."""

    tag: str


@dataclass
class _Open:
    """A collection that has begun: what it becomes and how many values it holds so far."""

    value: Any
    anchor: str | None
    count: int = 1
    key: Any = None
    has_key: bool = False


def parse(data: bytes, name: str) -> dict[str, Any]:
    """The settings in the bytes of a YAML file; CheckpointError, with the file's `name`, when they are not that."""
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("pyyaml", "import") from None
    if len(data) > LARGEST:
        raise CheckpointError(f"{name} has {len(data)} bytes; settings have at most {LARGEST}.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events only: composing and constructing, which recurse and make objects, are never reached.
        value = _built(yaml.parse(data, Loader=loader), yaml, name)
    except (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{name} is not YAML: {_one_line(error)}.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CheckpointError(f"{name} holds no settings: wanted names and values, as 'width: [[2, 0], [1, 0]]'.")
    return value


def _built(events: Iterator[Any], yaml: Any, name: str) -> Any:
    """The value of the only document among the events."""
    resolver, constructor = yaml.resolver.Resolver(), yaml.constructor.SafeConstructor()
    root = _Open([], None)
    stack, anchors, documents = [root], dict[str, tuple[Any, int]](), 0
    for event in events:
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    raise CheckpointError(f"{name} holds several documents; pykan writes one.")
            case yaml.SequenceStartEvent():
                plain = event.tag is None or event.tag in _LISTS
                stack.append(_Open([] if plain else _opaque(event.tag), event.anchor))
            case yaml.MappingStartEvent():
                plain = event.tag is None or event.tag == _CORE + "map"
                stack.append(_Open({} if plain else _opaque(event.tag), event.anchor))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = stack.pop()
                if done.anchor is not None:
                    anchors[done.anchor] = done.value, done.count
                _add(stack[-1], done.value, done.count, name)
            case yaml.ScalarEvent():
                value = _scalar(event, resolver, constructor, yaml, name)
                if event.anchor is not None:
                    anchors[event.anchor] = value, 1
                _add(stack[-1], value, 1, name)
            case yaml.AliasEvent():
                if event.anchor not in anchors:  # one that is still open, too: it would hold itself
                    raise CheckpointError(f"{name} refers to {event.anchor!r}, which is not whole before it.")
                _add(stack[-1], *anchors[event.anchor], name)
        if len(stack) > DEEPEST:
            raise CheckpointError(f"{name} is nested deeper than {DEEPEST} levels.")
    return root.value[0] if root.value else None


def _add(holder: _Open, value: Any, count: int, name: str) -> None:
    """Put a value, which stands for `count` of them, where it belongs."""
    holder.count += count
    if holder.count > MOST_VALUES:
        raise CheckpointError(f"{name} stands for more than {MOST_VALUES} values.")
    if isinstance(holder.value, list):
        holder.value.append(value)
    elif isinstance(holder.value, dict) and not holder.has_key:
        if not isinstance(value, str | int | float | bool | None):
            raise CheckpointError(f"{name} has a name that is no text.")
        if value in holder.value:
            raise CheckpointError(f"{name} has {str(value)[:40]!r} twice.")
        holder.key, holder.has_key = value, True
    elif isinstance(holder.value, dict):
        holder.value[holder.key] = value
        holder.has_key = False


def _scalar(event: Any, resolver: Any, constructor: Any, yaml: Any, name: str) -> Any:
    """A number, a text, true, false or null; what has a tag of something else is opaque."""
    if len(event.value) > LONGEST_SCALAR:
        raise CheckpointError(f"{name} holds a value of {len(event.value)} characters; {LONGEST_SCALAR} are enough.")
    tag = event.tag
    if tag is None or tag == "!":
        tag = resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
    match tag.removeprefix(_CORE):
        case "null" | "bool" | "int" | "float" as kind:
            node = yaml.ScalarNode(tag, event.value)
            return getattr(constructor, f"construct_yaml_{kind}")(node)
        case "str" | "timestamp" | "merge" | "value":
            return event.value
        case _:
            return _opaque(tag)


def _opaque(tag: str) -> Opaque:
    return Opaque(tag.removeprefix(_CORE)[:200])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
