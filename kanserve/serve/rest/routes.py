"""The paths of the HTTP port: which call a request asks for."""

from dataclasses import dataclass
from urllib.parse import unquote

from kanserve.serve.methods import MODEL, ROUTES, VERSION, Method, Rest
from kanserve.serve.rest.errors import HttpError


@dataclass(frozen=True)
class Route:
    """What a request asks for, and the model that its path names."""

    rest: Rest
    method: Method | None  # None: a page, as the metrics are
    model: str = ""
    version: str = ""


def find_route(verb: str, target: str) -> Route:
    """The route of a request line. HttpError 404 for a path that is not there, 405 for another method."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):  # as a proxy is asked: http://host/path
        path = "/" + path.partition("://")[2].partition("/")[2]
    parts = path.strip("/").split("/")
    model = version = ""
    if parts[:2] == ["v2", "models"] and len(parts) > 2 and parts[2:] != ["stats"]:
        model, parts[2] = parts[2], MODEL
        if parts[3:4] == ["versions"] and len(parts) > 4:
            version, parts[4] = parts[4], VERSION
    elif parts[:3] == ["v2", "repository", "models"] and len(parts) > 3:
        model, parts[3] = parts[3], MODEL
    rest, method = ROUTES.get("/" + "/".join(parts), (None, None))
    if rest is None or (MODEL in parts and not model) or (VERSION in parts and not version):
        raise HttpError(404, "There is no such path here. GET /openapi.json lists those that there are.")
    allowed = ("GET", "HEAD") if rest.verb == "GET" else (rest.verb,)
    if verb not in allowed:
        raise HttpError(405, f"This path takes {rest.verb}, got {verb:.20}.", ("Allow", ", ".join(allowed)))
    return Route(rest, method, unquote(model), unquote(version))
