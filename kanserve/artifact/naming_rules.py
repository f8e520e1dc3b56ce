"""The allowed names of models, versions and files of an artifact; format.py gives the reasons."""

import re

from kanserve.errors import InvalidNameError

MANIFEST, KAN, FORMULA, GOLDEN = "manifest.json", "kan.safetensors", "formula.json", "golden.safetensors"
SIGNATURE, SIGNATURE_BYTES = "manifest.sig", 64
REQUIRED = (KAN, FORMULA, GOLDEN)
MAX_VERSION = 999_999_999

NAME, VERSION = r"[a-z0-9][a-z0-9_-]{0,62}", r"[1-9][0-9]{0,8}"  # regular expressions, in the OpenAPI document too
_NAME, _VERSION = re.compile(NAME), re.compile(VERSION)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def check_name(name: object) -> str:
    """Return the name of a model. Raises InvalidNameError if it is not allowed."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"A model's name is 1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit; got {ascii(name)[:80]}."
        )
    return name


def check_version(version: int | str) -> int:
    """Parse a version, a number or its text. Raises InvalidNameError if it is not allowed."""
    if isinstance(version, bool) or not _VERSION.fullmatch(str(version)):
        raise InvalidNameError(
            f"A version is an integer from 1 to {MAX_VERSION} without leading zeros; got {ascii(version)[:80]}."
        )
    return int(version)


def check_path(path: str) -> str:
    """Return the path of a file inside an artifact. Raises InvalidNameError if it is not allowed."""
    folder, *names = path.split("/")
    allowed = path in REQUIRED if not names else bool(_KIND.fullmatch(folder))
    if not allowed or len(names) > 3 or not all(_SEGMENT.fullmatch(name) for name in names):
        raise InvalidNameError(
            f"A file of an artifact is one of {', '.join(REQUIRED)}, or lies in a kind's folder under names of "
            f"letters, digits, '.', '_' and '-'; got {ascii(path)[:120]}."
        )
    return path


def folders_of(path: str) -> list[str]:
    """The parent folders of a file: "a" and "a/b" for "a/b/c"."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]
