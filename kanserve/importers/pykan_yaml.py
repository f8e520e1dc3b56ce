"""Read pykan's settings file (YAML) as plain data. It is read as a stream of events: no object is constructed, and a
value with a Python tag becomes an `Opaque`. Depth, length and the expansion of aliases are bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kanserve.errors import CheckpointError, MissingDependencyError

LARGEST = 16 << 20  # bytes of a file; a network of a million edges needs half
DEEPEST = 30
MOST_VALUES = 4 << 20  # aliases count as what they expand to
LONGEST_SCALAR = 1000

_CORE = "tag:yaml.org,2002:"
_LISTS = (_CORE + "seq", _CORE + "python/tuple")


@dataclass(frozen=True)
class Opaque:
    """A placeholder for a Python object that was not constructed, with its tag,
    "python/object:torch.nn.modules.…SiLU"."""

    tag: str


@dataclass
class _Open:
    """A collection being read, and how many values it contains so far."""

    value: Any
    anchor: str | None
    count: int = 1
    key: Any = None
    has_key: bool = False


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Parse the settings in a YAML file. Raises CheckpointError, with the file's `name`, if there are none."""
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("pyyaml", "import") from None
    if len(data) > LARGEST:
        raise CheckpointError(f"{name} has {len(data)} bytes; settings have at most {LARGEST}.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events only: YAML's composer and constructor, which recurse and make objects, are not used.
        value = _build(yaml.parse(data, Loader=loader), yaml, name)
    except (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{name} is not YAML: {_one_line(error)}.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CheckpointError(f"{name} holds no settings: wanted names and values, as 'width: [[2, 0], [1, 0]]'.")
    return value


def _build(events: Iterator[Any], yaml: Any, name: str) -> Any:
    """Build the value of the only document among the events."""
    builder = _Builder(yaml, name)
    for event in events:
        builder.take(event)
    value = builder.stack[0].value
    return value[0] if value else None


class _Builder:
    """The open collections, outermost first, and the values with anchors."""

    def __init__(self, yaml: Any, name: str) -> None:
        self.stack = [_Open([], None)]
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._resolver, self._constructor = yaml.resolver.Resolver(), yaml.constructor.SafeConstructor()
        self._yaml, self._name, self._documents = yaml, name, 0

    def take(self, event: Any) -> None:
        yaml = self._yaml
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise CheckpointError(f"{self._name} holds several documents; pykan writes one.")
            case yaml.SequenceStartEvent():
                self._open([] if event.tag is None or event.tag in _LISTS else _opaque(event.tag), event.anchor)
            case yaml.MappingStartEvent():
                self._open({} if event.tag in (None, _CORE + "map") else _opaque(event.tag), event.anchor)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self.stack.pop()
                self._keep(done.value, done.count, done.anchor)
            case yaml.ScalarEvent():
                self._keep(_scalar(event, self._resolver, self._constructor, yaml, self._name), 1, event.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:  # also if still open: it would contain itself
                    raise CheckpointError(f"{self._name} refers to {event.anchor!r}, which is not whole before it.")
                self._keep(*self._anchors[event.anchor])

    def _open(self, value: Any, anchor: str | None) -> None:
        self.stack.append(_Open(value, anchor))
        if len(self.stack) > DEEPEST:
            raise CheckpointError(f"{self._name} is nested deeper than {DEEPEST} levels.")

    def _keep(self, value: Any, count: int, anchor: str | None = None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value, count
        _add(self.stack[-1], value, count, self._name)


def _add(holder: _Open, value: Any, count: int, name: str) -> None:
    """Add a value to its collection; it counts as `count` values."""
    holder.count += count
    if holder.count > MOST_VALUES:
        raise CheckpointError(f"{name} stands for more than {MOST_VALUES} values.")
    if isinstance(holder.value, list):
        holder.value.append(value)
    elif isinstance(holder.value, dict) and not holder.has_key:
        if not isinstance(value, str | int | float | bool | None):
            raise CheckpointError(f"{name} has a name that is not text.")
        if value in holder.value:
            raise CheckpointError(f"{name} has {str(value)[:40]!r} twice.")
        holder.key, holder.has_key = value, True
    elif isinstance(holder.value, dict):
        holder.value[holder.key] = value
        holder.has_key = False


def _scalar(event: Any, resolver: Any, constructor: Any, yaml: Any, name: str) -> Any:
    """A number, string, boolean or null. A value with another tag becomes opaque."""
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
