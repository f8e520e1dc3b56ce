"""The gRPC server: wiring in `server`, and the logic of every call as a plain function that knows nothing of grpc."""

from importlib.util import find_spec

from kanserve.errors import MissingDependencyError

# Every module of this package may import grpc, so its absence is explained once, here. A process that only reads
# settings does not need it.
if find_spec("grpc") is None:
    raise MissingDependencyError("grpcio", "serve")
