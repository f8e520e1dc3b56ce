"""SECURITY 10 and 14 at full length: overload, and ten minutes of load; SOAK_SECONDS says how many seconds the second.

python -m tests.soak.soak_load
"""

import os
import sys

from kanserve.serve.settings import Settings
from tests.support.servers import server_load, serving


def main() -> int:
    held = []
    for kind, at_once in (
        ("sleeps", server_load.AT_ONCE),
        ("computes", server_load.AT_ONCE),
        ("sleeps", Settings.concurrency),  # as a server has it that nobody sets anything of
        ("computes", Settings.concurrency),
    ):
        model = serving.busy() if kind == "computes" else serving.sleeping(0.1)
        found = server_load.overload(model, times=10, seconds=10, apart=kind == "computes", at_once=at_once)
        text = f"10, a model that {kind}, {at_once} at once"
        held += [
            _said(
                found.refusal < 0.010,
                f"{text}: a refusal in {found.refusal * 1e3:.1f} ms (p99 of {found.refused}), wanted < 10 ms",
            ),
            _said(
                found.goodput >= 0.8 * found.capacity,
                f"{text}: {found.goodput:.0f} answers/s of {found.offered:.0f} requests/s, "
                f"{found.goodput / found.capacity:.0%} of {found.capacity:.0f}, wanted ≥ 80 %",
            ),
            _said(found.codes <= {"OK", "RESOURCE_EXHAUSTED"}, f"{text}: codes {', '.join(sorted(found.codes))}"),
        ]
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    long = server_load.endure(seconds)
    grown = (long.end.memory - long.warm.memory) / 2**20
    held += [
        _said(grown < 4, f"14: memory {grown:+.1f} MB in {seconds:.0f} s and {long.calls} calls, wanted < 4"),
        _said(
            long.end.descriptors <= long.warm.descriptors,
            f"14: descriptors {long.warm.descriptors}, then {long.end.descriptors}",
        ),
        # grpc's own come and go.
        _said(long.end.threads <= long.warm.threads + 2, f"14: threads {long.warm.threads}, then {long.end.threads}"),
    ]
    return int(not all(held))


def _said(true: bool, text: str) -> bool:
    print(f"{'held' if true else 'BROKEN'}: {text}", flush=True)
    return true


if __name__ == "__main__":
    sys.exit(main())
