"""The load generator, a separate process: it reads loads on standard input and prints the results.

It sends and receives raw bytes, so its cost is gRPC alone. With n requests in flight (closed loop) each answer sends
the next request, from the thread on which it came; with a rate (open loop) so many are sent per second, regardless of
answers. One line of JSON in, one out:

    {"address": .., "request": "hexadecimal", "in_flight": 64, "seconds": 1.0, "connections": 1, "rate": 0}
    {"count": .., "sent": .., "seconds": .., "cpu": .., "p50": .., "p99": .., "errors": .., "error": ".."}

Times are in seconds; `cpu` is what the generator itself used.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from threading import Condition, Event, Lock
from typing import Any

import grpc

PATH = "/inference.GRPCInferenceService/ModelInfer"
_WARM = 0.1  # share of the time for warm-up, before the measurement


@dataclass(frozen=True)
class Load:
    address: str
    request: str
    in_flight: int
    seconds: float
    connections: int = 1
    rate: float = 0.0  # requests per second; 0 for a closed loop with `in_flight` requests
    path: str = PATH


@dataclass(frozen=True)
class Answered:
    count: int  # in the measured time
    sent: int  # including the warm-up
    seconds: float
    cpu: float
    p50: float
    p99: float
    errors: int
    error: str = ""


def run(load: Load) -> Answered:
    request = bytes.fromhex(load.request)
    with ExitStack() as stack:
        methods = [
            stack.enter_context(
                grpc.insecure_channel(load.address, [("grpc.use_local_subchannel_pool", 1)])
            ).unary_unary(load.path, request_serializer=None, response_deserializer=None)
            for _ in range(load.connections)
        ]
        for method in methods:
            with suppress(grpc.RpcError):  # the loads will hit and count it again
                method(request, timeout=60)  # connects before the measurement
        send = _one_after_the_other if load.in_flight == 1 else _together
        if load.rate:
            send = partial(_by_the_clock, load.rate)
        before, _ = send(methods, request, load.in_flight, _WARM * load.seconds)
        cpu, begun = time.process_time(), time.perf_counter()
        taken, errors = send(methods, request, load.in_flight, load.seconds)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    taken.sort()
    return Answered(
        count=len(taken),
        sent=len(taken) + len(before) + len(methods),
        seconds=seconds,
        cpu=cpu,
        p50=_part(taken, 0.5),
        p99=_part(taken, 0.99),
        errors=len(errors),
        error=errors[0] if errors else "",
    )


Method = Callable[..., Any]  # grpc's callables have no types


def _one_after_the_other(
    methods: list[Any], request: bytes, in_flight: int, seconds: float
) -> tuple[list[float], list[str]]:
    taken, errors, method = [], [], methods[0]
    clock = time.perf_counter
    now, end = clock(), clock() + seconds
    while now < end:
        begun = now
        try:
            method(request, timeout=60)
        except grpc.RpcError as error:
            errors.append(str(error))
        now = clock()
        taken.append(now - begun)
    return taken, errors


def _together(methods: list[Any], request: bytes, in_flight: int, seconds: float) -> tuple[list[float], list[str]]:
    taken: list[float] = []
    errors: list[str] = []
    clock, lock, done = time.perf_counter, Lock(), Event()
    end, under_way = clock() + seconds, in_flight

    def send(method: Any) -> None:
        begun = clock()

        def came(call: Any) -> None:
            nonlocal under_way
            now = clock()
            taken.append(now - begun)
            if call.code() is not grpc.StatusCode.OK:
                errors.append(call.details())
            if now < end:
                send(method)
                return
            with lock:  # several connections have several threads
                under_way -= 1
                if under_way == 0:
                    done.set()

        method.future(request, timeout=60).add_done_callback(came)

    for number in range(in_flight):
        send(methods[number % len(methods)])
    done.wait()
    return taken, errors


def _by_the_clock(
    rate: float, methods: list[Any], request: bytes, in_flight: int, seconds: float
) -> tuple[list[float], list[str]]:
    taken: list[float] = []
    errors: list[str] = []
    clock, ended, sent = time.perf_counter, Condition(), 0
    start = clock()

    def send(method: Any) -> None:
        begun = clock()

        def came(call: Any) -> None:
            with ended:
                taken.append(clock() - begun)
                if call.code() is not grpc.StatusCode.OK:
                    errors.append(call.details())
                ended.notify()

        method.future(request, timeout=60).add_done_callback(came)

    while (passed := clock() - start) < seconds:
        while sent < passed * rate:
            send(methods[sent % len(methods)])
            sent += 1
        time.sleep(max(0.0, (sent + 1) / rate - (clock() - start)))
    with ended:
        ended.wait_for(lambda: len(taken) == sent)
    return taken, errors


def _part(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(asdict(run(Load(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
