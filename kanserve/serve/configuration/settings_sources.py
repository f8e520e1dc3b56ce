"""Reads the settings of a server: flags first, then environment variables, then a file, then defaults.

The names are those of `Settings`: `unix_socket` is the flag --unix-socket, the variable KANSERVE_UNIX_SOCKET and the
key unix_socket of the TOML file that --config or KANSERVE_CONFIG names. Lists are separated by commas; the file may
have TOML arrays. Only the file has [models.NAME] and [[access]].

A misspelt name is an error, so that no server runs without a limit that was meant for it. Exceptions serve
orchestrators: KServe's flags are accepted by their own names, those without a meaning here with a warning, and with
them a server listens on all addresses; the variables that Kubernetes makes for a service called kanserve are ignored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from kanserve.errors import InputError, MissingDependencyError
from kanserve.serve.configuration import flags
from kanserve.serve.configuration.checks import complaints
from kanserve.serve.settings import Grant, ModelSettings, Settings

try:
    # Of pydantic only what validates: with its models on top, a server would start 0.3 s later.
    from pydantic_core import SchemaValidator, ValidationError, core_schema
except ModuleNotFoundError:
    raise MissingDependencyError("pydantic-core", "serve") from None

PREFIX = "KANSERVE_"
# Read elsewhere.
_NOT_SETTINGS = {
    "KANSERVE_CONFIG",
    "KANSERVE_NATIVE",
    "KANSERVE_ONNXRUNTIME_HEADERS",
    "KANSERVE_PLATFORM",
    "KANSERVE_SERVER_LIBRARIES",
    "KANSERVE_STUDIO",
    "KANSERVE_TOKEN",
}
_OF_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LINK = re.compile(r"(tcp|udp|sctp)://")

Values = Mapping[str, Any]  # the raw values of a source: texts, or TOML values
SettingKey = tuple[str | int, ...]  # ("models", "houses", "max_rows")


@dataclass(frozen=True)
class Configuration:
    """Settings, the origin of each one that is not a default, and warnings about ignored flags."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of `kanserve serve ARGUMENTS`. Raises InputError with one line for each mistake."""
    return configuration(arguments, environ).settings


def configuration(arguments: Sequence[str], environ: Mapping[str, str]) -> Configuration:
    """Like `read`, with the origin of each setting. The caller handles `--help` and `--check-config`."""
    given = flags.parse(arguments)
    path = given.values.get("config") or environ.get("KANSERVE_CONFIG", "")
    wrong = [*given.wrong]
    sources = [
        _Source("flag", {name: value for name, value in given.values.items() if name != "config"}, given.names),
        _environment(environ, wrong),
        _file(path, wrong),
    ]
    if given.as_kserve:
        # Its probes and its Service reach the pod from outside, and it has no flag for the address.
        sources.append(_Source("KServe's flags", {"host": "0.0.0.0"}))
    origins = {name: source.origin((name,)) for source in reversed(sources) for name in source.values}
    settings = _read(sources, wrong)
    if settings is not None and not wrong:
        wrong += complaints(settings, lambda name: origins.get(name, name))
    if settings is None or wrong:
        raise InputError("\n".join(wrong))
    return Configuration(settings, origins, given.warnings)


@dataclass(frozen=True)
class _Source:
    """A source of settings: "flag", "variable", or the path of the file."""

    kind: str
    values: Values
    names: Mapping[str, str] = field(default_factory=dict)  # as they were written, where that differs

    def origin(self, place: SettingKey) -> str:
        """Where a value of this source was written, for messages."""
        name = str(place[0])
        match self.kind:
            case "flag":
                return self.names.get(name, flags.flag(name))
            case "variable":
                return PREFIX + name.upper()
        match place:
            case ("models", str(model), *rest):
                return " ".join([f"[models.{model}]", *map(str, rest[:1]), "in", self.kind])
            case ("access", int(index), *rest):
                return " ".join([f"[[access]] {index + 1}", *map(str, rest[:1]), "in", self.kind])
        return f"{name} in {self.kind}"


def _environment(environ: Mapping[str, str], wrong: list[str]) -> _Source:
    names = [setting.name for setting in fields(Settings) if "file" not in setting.metadata]
    values = {}
    for variable, text in environ.items():
        rest = variable.removeprefix(PREFIX)
        if rest == variable or variable in _NOT_SETTINGS or _OF_KUBERNETES.fullmatch(rest):
            continue
        if (rest == "PORT" or rest.endswith("_PORT")) and _LINK.match(text):
            continue
        if rest.lower() in names and rest.isupper():
            values[rest.lower()] = text
        else:
            wrong.append(f"{variable}: unknown setting{_nearest(rest.lower(), names, _variable)}")
    return _Source("variable", values)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _file(path: str, wrong: list[str]) -> _Source:
    if not path:
        return _Source("no file", {})
    import tomllib

    try:
        with open(path, "rb") as opened:
            return _Source(path, tomllib.load(opened))
    except OSError as error:
        wrong.append(f"{path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{path}: not TOML: {error}")
    return _Source(path, {})


def _read(sources: Sequence[_Source], wrong: list[str]) -> Settings | None:
    """Merge the settings of all sources; earlier sources override later ones. Mistakes are appended to `wrong`."""
    given = {name: value for source in reversed(sources) for name, value in source.values.items()}
    try:
        read = SchemaValidator(_table(Settings)).validate_python(given)
    except ValidationError as errors:
        wrong += [_complaint(error, sources) for error in errors.errors(include_url=False, include_context=False)]
        return None
    read["models"] = {name: ModelSettings(**entry) for name, entry in read["models"].items()}
    read["access"] = tuple(Grant(**entry) for entry in read["access"])
    return Settings(**read)


def _table(kind: type[Any]) -> core_schema.CoreSchema:
    """The schema for reading a dataclass of settings; unknown keys are refused."""
    hints = get_type_hints(kind)
    known = {setting.name: _field(hints[setting.name], setting) for setting in fields(kind)}
    return core_schema.typed_dict_schema(known, extra_behavior="forbid")


def _field(hint: Any, setting: Field[Any]) -> core_schema.TypedDictField:
    schema = _value(hint, setting.metadata.get("least"), setting.metadata.get("most"))
    if setting.default is not MISSING:
        schema = core_schema.with_default_schema(schema, default=setting.default)
    elif setting.default_factory is not MISSING:
        schema = core_schema.with_default_schema(schema, default_factory=setting.default_factory)
    else:
        return core_schema.typed_dict_field(schema, required=True)
    return core_schema.typed_dict_field(schema, required=False)


def _value(hint: Any, least: Any = None, most: Any = None) -> core_schema.CoreSchema:
    """The schema for a value of a type. Lists may be comma-separated texts; booleans are not numbers."""
    part = _list_of(hint)
    if part is not None:
        many: core_schema.CoreSchema = core_schema.tuple_schema([_value(part)], variadic_item_index=0)
        if not is_dataclass(part):
            many = core_schema.no_info_before_validator_function(_split, many)
        return core_schema.nullable_schema(many) if get_origin(hint) is not tuple else many
    if hint is int:
        return core_schema.no_info_before_validator_function(_number, core_schema.int_schema(ge=least, le=most))
    if hint is float:
        number = core_schema.float_schema(ge=least, le=most, allow_inf_nan=False)
        return core_schema.no_info_before_validator_function(_number, number)
    if get_origin(hint) is dict:
        return core_schema.dict_schema(core_schema.str_schema(), _value(get_args(hint)[1]))
    if get_origin(hint) is Literal:
        return core_schema.literal_schema(list(get_args(hint)))
    if is_dataclass(hint):
        return _table(cast(type[Any], hint))
    return core_schema.bool_schema() if hint is bool else core_schema.str_schema()


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _list_of(hint: Any) -> Any:
    """The element type of a tuple type; None for other types."""
    for member in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(member) is tuple:
            return get_args(member)[0]
    return None


def _complaint(error: Mapping[str, Any], sources: Sequence[_Source]) -> str:
    """A line for one validation error: where, what is expected, and what was found."""
    key: SettingKey = error["loc"]
    source = next((candidate for candidate in sources if key[0] in candidate.values), sources[-1])
    origin = source.origin(key)
    kind: type[Any] = {"models": ModelSettings, "access": Grant}.get(str(key[0]), Settings)
    known = {setting.name: setting for setting in fields(kind)}
    name = str(key[2] if kind is not Settings and len(key) > 2 else key[0])
    if error["type"] == "extra_forbidden":
        return f"{origin}: unknown setting{_nearest(name, list(known))}"
    if error["type"] == "missing":
        return f"{origin}: wanted {describe_values(known[name], kind)}, got nothing"
    what = describe_values(known[name], kind) if name in known else "a table"
    return f"{origin}: wanted {what}, got {_got(error['input'])}"


def _got(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(name: str, names: Sequence[str], written: Any = str) -> str:
    near = get_close_matches(name.replace("-", "_"), names, 1)
    return f"; did you mean {written(near[0])}?" if near else ""


def describe_values(setting: Field[Any], kind: type[Any] = Settings) -> str:
    """Describe in words which values a setting takes."""
    hint = get_type_hints(kind)[setting.name]
    part = _list_of(hint)
    if part is not None:
        return f"{_WANTED.get(part) or _choice(part)}, separated by commas"
    if hint in (int, float):
        least, most = setting.metadata.get("least"), setting.metadata.get("most")
        bounds = f" from {least}" * (least is not None) + f" to {most}" * (most is not None)
        return ("a whole number" if hint is int else "a number") + bounds
    return "true or false" if hint is bool else _choice(hint) if get_origin(hint) is Literal else "a text"


_WANTED = {str: "texts", int: "whole numbers"}


def _choice(hint: Any) -> str:
    *rest, last = get_args(hint)
    return f"{', '.join(rest)} or {last}"
