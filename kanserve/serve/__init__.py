"""The gRPC server. `server` wires the parts together; a call's logic is a plain function that imports no grpc."""

from importlib.util import find_spec

from kanserve.errors import MissingDependencyError

# Every module of this package may import grpc, so its absence is explained once, here. A process that only reads
# settings does not need it.
if find_spec("grpc") is None:
    raise MissingDependencyError("grpcio", "serve")
