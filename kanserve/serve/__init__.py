"""The gRPC server: wiring in `server`, and the logic of every call as a plain function that knows nothing of grpc."""

from kanserve.errors import MissingDependencyError

try:
    import grpc as grpc  # the modules of this package import it in any order, and only here its absence is explained
except ModuleNotFoundError:
    raise MissingDependencyError("grpcio", "serve") from None
