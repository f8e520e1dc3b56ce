"""A peer: a grpcio server that returns a prepared answer to every ModelInfer."""

import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire

THREADS = 4  # the fastest: 8 threads take a little more CPU time, 16 take 5 % more
ROWS = (1, 256)


def answer(rows: int) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(
        model_name="empty",
        model_version="1",
        outputs=[pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP64", shape=[rows, 1])],
        raw_output_contents=[bytes(8 * rows)],
    )


ONE_ROW, MANY_ROWS = map(answer, ROWS)


def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    return ONE_ROW if len(request.raw_input_contents[0]) < 1000 else MANY_ROWS


def main() -> None:
    method = wire.METHODS["ModelInfer"]
    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE_NAME, {method.name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    server.start()
    print(f"empty: serving on 127.0.0.1:{port}", flush=True)
    stopped.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    main()
