"""The gRPC server: wiring in `server`, and the logic of every call as a plain function that knows nothing of grpc."""

from importlib.util import find_spec

from kanserve.errors import MissingDependencyError

# The modules of this package import grpc in any order, and only here its absence is explained; but what only reads
# settings needs none of it.
if find_spec("grpc") is None:
    raise MissingDependencyError("grpcio", "serve")
