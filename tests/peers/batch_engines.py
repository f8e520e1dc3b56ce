"""Batch inference on Dask and Ray, on two workers each: equal to the reference, also when a worker is killed.

    python -m tests.peers.batch_engines

`BatchPredictor` predicts five million rows as each engine documents it. A task kills its worker half-way, once;
the engine starts another and does its tasks again. A line says whether all rows came back, equal bit by bit to those of
one process, how many rows the workers predicted in a CPU second of their tasks, with loading the model and making the
table, and how many in a second by the clock, with the start of the engine. An engine that is not installed is passed
over.
"""

import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kanserve import compile, publish
from kanserve.batch import BatchPredictor
from kanserve.network.evaluate import evaluate
from kanserve.train import create

WORKERS = 2
ROWS, PARTS = 5_000_000, 20
KILLED = 7  # the part whose worker is killed, once
Part = tuple[Any, int, float]
NAMES = ["x1", "x2", "x3", "x4"]


def main() -> int:
    kan = create([4, 10, 1], grid=5, seed=0)
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, 4))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        publish(folder, "m", compile(kan, ["c_source"], name="m"))
        predictor = BatchPredictor(Path(folder, "m"))
        wanted = predictor.predict(x)[:, 0]
        worst = float(np.abs(wanted[:1000] - evaluate(kan, x[:1000])[:, 0]).max())
        print(f"one process: differs from the reference by {worst:.0e} at most")
        for engine, run in (("dask", _dask), ("ray", _ray)):
            if importlib.util.find_spec({"dask": "distributed"}.get(engine, engine)) is None:
                print(f"{engine}: not installed")
                continue
            for killed in (False, True):
                mark = Path(folder, f"{engine}-killed")
                task = partial(_predicted, predictor, mark if killed else None)
                begun = time.perf_counter()
                parts = run(task, x)
                seconds = time.perf_counter() - begun
                got = np.concatenate([values for values, *_ in parts])
                processes, worked = len({pid for _, pid, _ in parts}), sum(cpu for *_, cpu in parts)
                equal = np.array_equal(got, wanted)
                failed += not equal or mark.exists() != killed
                how = "a worker killed" if killed else "undisturbed"
                said = "equal" if equal else "DIFFERENT"
                rates = f"{ROWS / worked / 1e6:.2f} M rows a CPU second, {ROWS / seconds / 1e6:.2f} M a second"
                print(f"{engine}: {how}: {said}, {processes} processes, {rates}", flush=True)
    return 1 if failed else 0


def _predicted(predictor: BatchPredictor, mark: Path | None, number: int, rows: Any) -> tuple[Any, int, float]:
    """The predictions of a part, the process that made them, and its CPU seconds."""
    begun = time.process_time()
    if mark is not None and number == KILLED and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    table = pa.table({name: rows[:, column] for column, name in enumerate(NAMES)})
    values = predictor(table).column(0).to_numpy()
    return values, os.getpid(), time.process_time() - begun


def _parts(x: Any) -> list[Any]:
    return np.array_split(x, PARTS)


def _dask(task: Callable[[int, Any], Part], x: Any) -> list[Part]:
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        found: list[Part] = client.gather(client.map(task, range(PARTS), _parts(x), pure=False))
    return found


def _ray(task: Callable[[int, Any], Part], x: Any) -> list[Part]:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        remote = ray.remote(max_retries=3)(task.func).options(num_cpus=1)  # type: ignore[attr-defined]
        given = task.args  # type: ignore[attr-defined]
        found: list[Part] = ray.get([remote.remote(*given, number, part) for number, part in enumerate(_parts(x))])
    finally:
        ray.shutdown()
    return found


if __name__ == "__main__":
    sys.exit(main())
