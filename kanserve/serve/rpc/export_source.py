"""ExportSource: the files of a model's exported source, as they were published, in parts that fit any message.

They are read from the repository again, verified as when the model was loaded, and must be those that were loaded.
"""

from collections.abc import Iterator

from kanserve.errors import InputError, IntegrityError
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

FORMATS = ("c_source", "numpy_source")
PART_BYTES = 2**18
_LIBRARIES = (".so", ".dylib", ".dll", ".a", ".lib", ".wasm")


def export_source(state: ServerState, request: pb.ExportSourceRequest, call: Call) -> Iterator[pb.ExportSourceResponse]:
    """The parts of each file, in the order of their paths; libraries only where they are asked for.

    What is refused is refused at once: InputError for a format that is no source, NotFoundError for one that the model
    has not, IntegrityError where the repository no longer holds what was loaded.
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
    """Without the model itself: a version that was let go ends with its last call, and a stream may take long."""
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
