"""A published model in Ray Serve, for teams that have Ray: two nodes, autoscaling, and the standard gRPC calls.

    python -m examples.ray_serve        # needs ray[serve], which no extra of kanserve brings

First what it costs: a one-row request goes through Ray's proxy, its router and a replica, all of them Python, and took
30 ms of CPU on a busy machine, where `kanserve serve` takes microseconds; the cluster of this script holds a gigabyte.
Take it where Ray's graphs, autoscaling or clusters are what you need, and send many rows in a request.

The script starts a cluster of two nodes on this machine, serves a model from it, calls it with the protocol's own stub
from eight threads, for which Ray adds a second replica, and prints the CPU and the memory of all processes.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import gRPCOptions

from kanserve import compile, load_model, publish
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.train import create

PORT = 9000
APPLICATION = (("application", "kanserve"),)  # metadata by which Ray finds the application of a call


@serve.deployment(
    ray_actor_options={"num_cpus": 0.5},
    autoscaling_config={"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2, "upscale_delay_s": 1},
)
class Model:
    """The calls of the inference protocol, by their names, for one model."""

    def __init__(self, path: str) -> None:
        self.model = load_model(path)

    def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        rows = np.frombuffer(request.raw_input_contents[0]).reshape(tuple(request.inputs[0].shape))
        y = self.model.predict(rows)
        output = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP64", shape=y.shape)
        return pb.ModelInferResponse(model_name="m", outputs=[output], raw_output_contents=[y.tobytes()])


def main(requests: int = 2000) -> None:
    kan = create([4, 5, 1], grid=5, seed=0)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 4))
    with tempfile.TemporaryDirectory() as folder:
        publish(folder, "m", compile(kan, ["c_source"], name="m"))
        began = time.perf_counter()
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        try:
            servicers = ["kanserve.inference.wire.add_to_server"]
            serve.start(grpc_options=gRPCOptions(port=PORT, grpc_servicer_functions=servicers))
            application = Model.bind(str(Path(folder, "m")))  # type: ignore[attr-defined]  # of the decorator
            serve.run(application, name="kanserve")
            print(f"ready after {time.perf_counter() - began:.0f} s")
            _call(x, requests, float(evaluate(kan, x)[0, 0]))
        finally:
            serve.shutdown()
            ray.shutdown()
            cluster.shutdown()


def _call(x: np.ndarray, requests: int, wanted: float) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[x.tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{PORT}") as channel, ThreadPoolExecutor(8) as threads:
        stub = wire.stub(channel)

        def once(_: int) -> float:
            answer = stub.ModelInfer(request, metadata=APPLICATION, timeout=60)
            return float(np.frombuffer(answer.raw_output_contents[0])[0])

        list(threads.map(once, range(200)))
        before, begun = _cpu(), time.perf_counter()
        answers = list(threads.map(once, range(requests)))
        cpu, seconds = _cpu() - before, time.perf_counter() - begun
    memory = sum(process.memory_full_info().pss for process in _processes()) / 2**20
    wrong = sum(abs(answer - wanted) > 1e-12 for answer in answers)
    states = serve.status().applications["kanserve"].deployments["Model"].replica_states
    print(f"{requests} requests, {wrong} wrong, {sum(states.values())} replicas: {requests / seconds:.0f} requests/s")
    print(f"{1e6 * cpu / requests:.0f} us of CPU a request, {memory:.0f} MB in {len(_processes())} processes")


def _processes() -> list[psutil.Process]:
    """Ray's processes: this one starts them, and is not counted."""
    return [one for one in psutil.Process(os.getpid()).children(recursive=True) if one.is_running()]


def _cpu() -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _processes())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
