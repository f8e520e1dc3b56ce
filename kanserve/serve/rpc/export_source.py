"""ExportSource: the published source files of a model, in parts that fit into messages.

They are read from the repository again, verified as for loading, and must be those of the loaded version.
"""

from collections.abc import Iterator

from kanserve.errors import InputError, IntegrityError
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

FORMATS = ("c_source", "numpy_source")
PART_BYTES = 2**18
_LIBRARIES = (".so", ".dylib", ".dll", ".a", ".lib", ".wasm")


def export_source(state: ServerState, request: pb.ExportSourceRequest, call: Call) -> Iterator[pb.ExportSourceResponse]:
    """The parts of each file, in the order of the paths; compiled libraries only on request.

    Refused before the first part: InputError for a format that is no source, NotFoundError for one that the model does
    not have, IntegrityError if the repository no longer holds the loaded version.
    """
    if request.format not in FORMATS:
        raise InputError(f"A source is one of {', '.join(FORMATS)}; got {request.format!r:.60}.")
    model = state.catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    artifact = state.table.source.read(model.name, model.version)
    if artifact.manifest != model.manifest:
        raise IntegrityError(f"Version {model.version} of {model.name!r} differs from the one that was loaded.")
    files = {
        path: (data, artifact.manifest.files[f"{request.format}/{path}"].sha256)
        for path, data in sorted(artifact.part(request.format).items())
        if request.include_libraries or not path.endswith(_LIBRARIES)
    }
    return _parts(model.name, str(model.version), files, call)


def _parts(
    name: str, version: str, files: dict[str, tuple[bytes, str]], call: Call
) -> Iterator[pb.ExportSourceResponse]:
    """The messages. No reference to the model is held: a slow stream would keep an unloaded version in memory."""
    for path, (data, sha256) in files.items():
        for start in range(0, max(1, len(data)), PART_BYTES):
            if not call.alive():
                return
            end = start + PART_BYTES
            yield pb.ExportSourceResponse(
                model_name=name,
                model_version=version,
                path=path,
                data=data[start:end],
                last=end >= len(data),
                size=len(data),
                sha256=sha256,
            )
