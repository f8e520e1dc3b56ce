"""Calls to a pod, made in its network; `tests/packaging/test_image_runs.py` runs it there.

    python -m tests.support.peers.pod_calls ADDRESS HTTP < asked.json

prints what came as JSON: statuses of the probes, and the answers of each model over gRPC and REST. With `slow`, a model
whose answer takes time, it says "computing" once the server computes that, and prints a second line with the answer: in
between the server can be told to end.
"""

import fcntl
import json
import re
import socket
import struct
import sys
import time
from typing import Any

import grpc
import numpy as np

from kanserve.inference import wire
from tests.support.servers import rest_port
from tests.support.servers.serving import infer_request

_SET_FLAGS, _UP = 0x8914, 1  # SIOCSIFFLAGS and IFF_UP of netdevice(7)


def main(address: str, http: str) -> None:
    asked = json.load(sys.stdin)
    with socket.socket() as any_socket:  # a new network's loopback is down
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    with grpc.insecure_channel(address) as channel:
        stub = wire.stub(channel)
        answers = {}
        for name, rows in asked["models"].items():
            x = np.array(rows)
            raw = stub.ModelInfer(infer_request(name, x), timeout=60).raw_output_contents[0]
            answered = rest_port.call(http, f"/v2/models/{name}/infer", rest_port.infer(x))
            answers[name] = {"grpc": np.frombuffer(raw).tolist(), "rest": rest_port.output(answered)}
        _say(probes={path: rest_port.call(http, path).status for path in asked["probes"]}, answers=answers)
        if slow := asked.get("slow"):
            call = stub.ModelInfer.future(infer_request(slow, np.zeros((1, 1))), timeout=60)
            while not re.search(rf'requests_computing{{model="{slow}"}} [1-9]', _metrics(http)):
                time.sleep(0.02)
            print("computing", flush=True)
            _say(answer=np.frombuffer(call.result().raw_output_contents[0]).tolist())


def _metrics(http: str) -> str:
    return rest_port.call(http, "/metrics").body.decode()


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
