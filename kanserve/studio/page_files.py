"""The files of the studio's page, as a server gives them."""

from collections.abc import Mapping
from pathlib import Path

from kanserve.errors import NotFoundError

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def page_files(folder: Path = STATIC) -> Mapping[str, tuple[bytes, str]]:
    """Each file by its path in addresses, with its content type; NotFoundError where the page was not built."""
    if not (folder / "index.html").is_file():
        raise NotFoundError(
            "The page of the studio is not built in this checkout. Build it with 'make studio', which needs node; an "
            "installed kanserve has it."
        )
    found = {
        "/" + path.relative_to(folder).as_posix(): (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in _TYPES
    }
    return {**found, "/": found["/index.html"]}
