"""The flags of `kanserve serve`, generated from the fields of Settings. `settings_sources` converts their values."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from typing import Any, NoReturn, get_type_hints

from kanserve.errors import InputError
from kanserve.serve.settings import Settings

ABOUT = """Serve all models of a repository over gRPC until SIGTERM or Ctrl-C; SIGHUP looks for new versions.

Each flag, such as --unix-socket, is also an environment variable, KANSERVE_UNIX_SOCKET, and a key of the file that
--config names, unix_socket. Flags override the environment, which overrides the file. Lists are separated by commas.
"""
EXAMPLE = "Example: kanserve serve models --port 8001"

# KServe starts every server with these flags; here they have another name, or no meaning.
ALIASES = {
    "model_dir": "repository",
    "grpc_port": "port",
    "max_threads": "threads",
    "grpc_max_receive_message_length": "max_message_bytes",
    "ssl_certfile": "tls_certificate",
    "ssl_keyfile": "tls_key",
}
MEANINGLESS = (
    "access_log_format",
    "configure_logging",
    "enable_docs_url",
    "enable_grpc",
    "enable_latency_logging",
    "enable_predictor_health_check",
    "event_loop",
    "grpc_max_send_message_length",
    "log_config_file",
    "max_asyncio_workers",
    "predictor_host",
    "predictor_protocol",
    "predictor_request_retries",
    "predictor_request_timeout_seconds",
    "predictor_use_ssl",
    "protocol",
    "timeout_keep_alive",
)


@dataclass(frozen=True)
class Given:
    """The parsed flags: their values, and in `names` how each was written. `as_kserve`: KServe's, with underscores."""

    values: Mapping[str, Any]
    names: Mapping[str, str]
    warnings: tuple[str, ...]
    wrong: tuple[str, ...]
    as_kserve: bool = False


def flag(name: str) -> str:
    """The flag for a setting; the repository is positional."""
    return "REPOSITORY" if name == "repository" else "--" + name.replace("_", "-")


def parse(arguments: Sequence[str]) -> Given:
    """Parse the flags. Raises InputError if a flag lacks its value."""
    known, unknown = _parser().parse_known_args([_dash(argument) for argument in arguments])
    values, names, warnings = dict(vars(known)), {}, []
    for name in ("help", "check_config"):
        values.pop(name, None)
    for name in MEANINGLESS:
        if values.pop(f"no {name}", None) is not None:
            warnings.append(f"{flag(name)} has no meaning here")
    for alias, name in ALIASES.items():
        if (value := values.pop(f"alias {alias}", None)) is not None and name not in values:
            values[name], names[name] = value, flag(alias)
    for name, value in values.items():
        values[name] = ",".join(value) if isinstance(value, list) else value
    as_kserve = any(_dash(argument) != argument for argument in arguments)
    return Given(values, names, tuple(warnings), tuple(_unknown(unknown)), as_kserve)


def text() -> str:
    return _parser().format_help()


def asks(arguments: Sequence[str], *names: str) -> bool:
    """Whether one of these flags, such as --help, is among the arguments."""
    return any(_dash(argument) in names for argument in arguments)


def of_settings() -> Iterator[Field[Any]]:
    return (field for field in fields(Settings) if "file" not in field.metadata)


def default(setting: Field[Any]) -> str:
    value = setting.default if setting.default is not MISSING else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="kanserve serve",
        usage="kanserve serve [REPOSITORY] [flags]",
        description=ABOUT,
        epilog=EXAMPLE,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hints = get_type_hints(Settings)
    for setting in of_settings():
        hint, says = hints[setting.name], _says(setting)
        if setting.name == "repository":
            parser.add_argument("repository", nargs="?", metavar="REPOSITORY", help=says)
        elif hint is bool:
            parser.add_argument(flag(setting.name), dest=setting.name, action=argparse.BooleanOptionalAction, help=says)
        elif isinstance(setting.default, tuple) or setting.default is None:
            # A list that is given twice is concatenated.
            parser.add_argument(flag(setting.name), dest=setting.name, action="append", metavar="A,B", help=says)
        else:
            number = {int: "NUMBER", float: "NUMBER"}.get(hint, "TEXT")
            parser.add_argument(flag(setting.name), dest=setting.name, metavar=number, help=says)
    parser.add_argument("--config", metavar="FILE", help="A TOML file with settings. [; KANSERVE_CONFIG]")
    parser.add_argument("--check-config", action="store_true", help="Print the settings and exit: 0, or 2 with errors.")
    parser.add_argument("--help", action="store_true", help="Print this and exit.")
    for alias in ALIASES:
        parser.add_argument(flag(alias), dest=f"alias {alias}", help=argparse.SUPPRESS)
    for name in MEANINGLESS:
        parser.add_argument(flag(name), dest=f"no {name}", nargs="?", const="", help=argparse.SUPPRESS)
    return parser


def _says(setting: Field[Any]) -> str:
    return f"{setting.metadata['help']} [{default(setting)}]".replace("%", "%%")


def _dash(argument: str) -> str:
    """Write a flag with dashes: KServe writes --model_name instead of --model-name."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _unknown(arguments: Sequence[str]) -> Iterator[str]:
    known = [flag(setting.name) for setting in of_settings()] + ["--config", "--check-config", "--help"]
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-"):
            near = get_close_matches(name, known, 1)
            yield f"{name}: unknown flag" + (f"; did you mean {near[0]}?" if near else "")
        else:
            yield f"{argument!r:.80}: unexpected argument; wanted one repository and flags"
