"""Reads what is set of a server: flags, then the environment, then a file, then what `settings` says.

The names are those of `Settings`: `unix_socket` is the flag --unix-socket, the variable KANSERVE_UNIX_SOCKET and the
key unix_socket of the TOML file that --config or KANSERVE_CONFIG names. Lists are parted by commas; the file may have
them as lists. Only the file has [models.NAME] and [[access]].

Whatever is misspelt is an error, so that no server runs without the limit that was meant for it. But an orchestrator
has words of its own: KServe's flags are taken by their names there, those that mean nothing here with a warning, and
the variables that Kubernetes makes of a service called kanserve are left alone.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from kanserve.errors import InputError, MissingDependencyError
from kanserve.serve.configuration import flags
from kanserve.serve.configuration.checks import complaints
from kanserve.serve.settings import Grant, ModelSettings, Settings

try:
    import pydantic
    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
except ModuleNotFoundError:
    raise MissingDependencyError("pydantic-settings", "serve") from None

PREFIX = "KANSERVE_"
# Others read these.
_NOT_SETTINGS = {"KANSERVE_CONFIG", "KANSERVE_NATIVE", "KANSERVE_ONNXRUNTIME_HEADERS", "KANSERVE_PLATFORM"}
_OF_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LINK = re.compile(r"(tcp|udp|sctp)://")

Values = Mapping[str, Any]  # what a source has, not read yet: texts, or what TOML gives
SettingKey = tuple[str | int, ...]  # ("models", "houses", "max_rows")


@dataclass(frozen=True)
class Configuration:
    """Settings, where each that is not the default came from, and what was passed over."""

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of `kanserve serve ARGUMENTS`; InputError with one line for each thing that is wrong."""
    return configuration(arguments, environ).settings


def configuration(arguments: Sequence[str], environ: Mapping[str, str]) -> Configuration:
    """As `read`, and where it came from. `--help` and `--check-config` are not for here."""
    given = flags.parse(arguments)
    path = given.values.get("config") or environ.get("KANSERVE_CONFIG", "")
    wrong = [*given.wrong]
    sources = [
        _Source("flag", {name: value for name, value in given.values.items() if name != "config"}, given.names),
        _environment(environ, wrong),
        _file(path, wrong),
    ]
    origins = {name: source.origin((name,)) for source in reversed(sources) for name in source.values}
    settings = _read(sources, wrong)
    if settings is not None and not wrong:
        wrong += complaints(settings, lambda name: origins.get(name, name))
    if settings is None or wrong:
        raise InputError("\n".join(wrong))
    return Configuration(settings, origins, given.warnings)


@dataclass(frozen=True)
class _Source:
    """Where values come from: "flag", "variable", or the path of the file."""

    kind: str
    values: Values
    names: Mapping[str, str] = field(default_factory=dict)  # as they were written, where that is another way

    def origin(self, place: SettingKey) -> str:
        """How to find a value there."""
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
    names = [one.name for one in fields(Settings) if "file" not in one.metadata]
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
            wrong.append(f"{variable}: there is no such setting{_nearest(rest.lower(), names, _variable)}")
    return _Source("variable", values)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _file(path: str, wrong: list[str]) -> _Source:
    if not path:
        return _Source("no file", {})
    try:
        with open(path, "rb") as opened:
            return _Source(path, tomllib.load(opened))
    except OSError as error:
        wrong.append(f"{path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{path}: not TOML: {error}")
    return _Source(path, {})


def _read(sources: Sequence[_Source], wrong: list[str]) -> Settings | None:
    """What the sources say together, the first the strongest."""
    model = _model_of(Settings, BaseSettings)

    class Given(PydanticBaseSettingsSource):
        def __init__(self, values: Values) -> None:
            super().__init__(model)
            self.values = values

        def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
            return self.values.get(field_name), field_name, False

        def __call__(self) -> dict[str, Any]:
            return dict(self.values)

    def in_order(*_: Any, **__: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return tuple(Given(source.values) for source in sources)

    model.settings_customise_sources = in_order  # of a class that was made just now, for this call
    try:
        read = model()
    except pydantic.ValidationError as errors:
        wrong += [_complaint(error, sources) for error in errors.errors(include_url=False, include_context=False)]
        return None
    tables = {
        "models": {name: _made(ModelSettings, one) for name, one in read.models.items()},
        "access": tuple(_made(Grant, one) for one in read.access),
    }
    return Settings(**{one.name: tables.get(one.name, getattr(read, one.name)) for one in fields(Settings)})


def _made(kind: type[Any], read: Any) -> Any:
    return kind(**{one.name: getattr(read, one.name) for one in fields(kind)})


def _model_of(kind: type[Any], root: type[pydantic.BaseModel] = pydantic.BaseModel) -> Any:
    """What pydantic reads a dataclass of settings by (Any: made here, so that no checker knows its fields)."""
    hints = get_type_hints(kind)
    known: dict[str, Any] = {one.name: (_read_as(hints[one.name], one), _default(one)) for one in fields(kind)}
    if kind is Settings:
        # What is a table of its own has a model of its own, which refuses unknown keys too.
        of_a_model: Any = _model_of(ModelSettings)
        grant: Any = _model_of(Grant)
        known["models"] = (dict[str, of_a_model], pydantic.Field(default_factory=dict))
        known["access"] = (list[grant], pydantic.Field(default_factory=list))
    held = type("Held", (root,), {"model_config": {"extra": "forbid", "protected_namespaces": ()}})
    return pydantic.create_model(kind.__name__, __base__=held, **known)


def _default(one: Field[Any]) -> Any:
    least, most = one.metadata.get("least"), one.metadata.get("most")
    return pydantic.Field(... if one.default is MISSING else one.default, ge=least, le=most)


def _read_as(hint: Any, one: Field[Any]) -> Any:
    """A type as pydantic is to read it: lists from texts, and no truth as a number."""
    if _list_of(hint) is not None:
        return Annotated[hint, pydantic.BeforeValidator(_parted)]
    if hint in (int, float):
        return Annotated[hint, pydantic.BeforeValidator(_number), pydantic.Field(allow_inf_nan=False)]
    return hint


def _parted(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a truth is no number")
    return value


def _list_of(hint: Any) -> Any:
    """What a tuple is of, None for what is no tuple."""
    for one in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(one) is tuple:
            return get_args(one)[0]
    return None


def _complaint(error: Mapping[str, Any], sources: Sequence[_Source]) -> str:
    """One line: where, what was wanted, what was got."""
    place: SettingKey = error["loc"]
    source = next((one for one in sources if place[0] in one.values), sources[-1])
    origin = source.origin(place)
    kind: type[Any] = {"models": ModelSettings, "access": Grant}.get(str(place[0]), Settings)
    known = {one.name: one for one in fields(kind)}
    name = str(place[2] if kind is not Settings and len(place) > 2 else place[0])
    if error["type"] == "extra_forbidden":
        return f"{origin}: there is no such setting{_nearest(name, list(known))}"
    if error["type"] == "missing":
        return f"{origin}: wanted {wanted(known[name], kind)}, got nothing"
    what = wanted(known[name], kind) if name in known else "a table"
    return f"{origin}: wanted {what}, got {_got(error['input'])}"


def _got(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(name: str, names: Sequence[str], written: Any = str) -> str:
    near = get_close_matches(name.replace("-", "_"), names, 1)
    return f"; did you mean {written(near[0])}?" if near else ""


def wanted(one: Field[Any], kind: type[Any] = Settings) -> str:
    """What a setting takes, in words."""
    hint = get_type_hints(kind)[one.name]
    part = _list_of(hint)
    if part is not None:
        return f"{_WANTED.get(part) or _choice(part)}, parted by commas"
    if hint in (int, float):
        least, most = one.metadata.get("least"), one.metadata.get("most")
        bounds = f" from {least}" * (least is not None) + f" to {most}" * (most is not None)
        return ("a whole number" if hint is int else "a number") + bounds
    return "true or false" if hint is bool else _choice(hint) if get_origin(hint) is Literal else "a text"


_WANTED = {str: "texts", int: "whole numbers"}


def _choice(hint: Any) -> str:
    *rest, last = get_args(hint)
    return f"{', '.join(rest)} or {last}"
