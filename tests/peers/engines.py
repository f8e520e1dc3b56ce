"""Searches and cross-validation on other projects' engines: the results are those of one process, bit by bit.

    python -m tests.peers.engines [--only dask]

Each engine computes with two workers on this machine, as its own documentation starts them for joblib: loky, which is
joblib's default, dask (without its profiler, which takes a tenth of the time), and ray. An engine that is not installed
is passed over. A line says whether the results are equal and how long it took by the clock, the start of the workers
aside. The last fit of a grid search, of the best candidate to all rows, is made by one process everywhere.
"""

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import parallel_config

from kanserve import find_formulas
from kanserve.estimator import KANRegressor

WORKERS = 2
FITS = 3000  # the limit of a search: equal work on every engine, however long it takes


@contextmanager
def _dask() -> Iterator[None]:
    import dask
    from dask.distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        parallel_config(backend="dask"),
    ):
        yield


@contextmanager
def _ray() -> Iterator[None]:
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    register_ray()
    try:
        with parallel_config(backend="ray"):
            yield
    finally:
        ray.shutdown()


@contextmanager
def _loky() -> Iterator[None]:
    with parallel_config(backend="loky"):
        yield


ENGINES: dict[str, Callable[[], Any]] = {"loky": _loky, "dask": _dask, "ray": _ray}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    chosen = parser.parse_args(arguments).only
    warnings.simplefilter("ignore")
    serial = {name: _timed(task, 1) for name, task in TASKS.items()}
    for name, (_, seconds) in serial.items():
        print(f"one process: {name}: {seconds:.1f} s")
    different = 0
    for engine in chosen:
        if engine != "loky" and importlib.util.find_spec({"dask": "distributed"}.get(engine, engine)) is None:
            print(f"{engine}: not installed")
            continue
        with ENGINES[engine]():
            for name, task in TASKS.items():
                task(WORKERS, small=True)  # starts the workers
                result, seconds = _timed(task, WORKERS)
                equal = result == serial[name][0]
                different += not equal
                said = "equal" if equal else "DIFFERENT"
                print(f"{engine}: {name}: {said}, {seconds:.1f} s, {serial[name][1] / seconds:.2f}x", flush=True)
    return 1 if different else 0


def _timed(task: Callable[..., Any], jobs: int) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = task(jobs)
    return result, time.perf_counter() - begun


def _formulas(jobs: int, small: bool = False) -> Any:
    """A noisy law of four inputs, which takes a search half a minute."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 3, (1000, 4))
    y = 0.5 * x[:, 0] * np.exp(-x[:, 1]) * np.sin(2 * x[:, 2]) + x[:, 3] ** 2 / x[:, 0]
    y += 0.01 * y.std() * rng.normal(size=len(y))
    found = find_formulas((x, y), max_fits=100 if small else FITS, seed=0, n_jobs=jobs)
    return [(entry.formula.text, entry.formula.tree, entry.error, entry.validation) for entry in found]


def _grid_search(jobs: int, small: bool = False) -> Any:
    """Forty fits of a regressor."""
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (100 if small else 2000, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.05 * rng.normal(size=len(x))
    candidates = {"hidden": [(2,), (4,), (6,), (8,)], "grid": [5, 10]}
    search = GridSearchCV(KANRegressor(random_state=0), candidates, cv=5, n_jobs=jobs)
    search.fit(x, y)
    scores = {key: value.tolist() for key, value in search.cv_results_.items() if "score" in key and "time" not in key}
    return scores, search.best_params_, search.predict(x).tolist()


TASKS = {"find_formulas": _formulas, "GridSearchCV of 40 fits": _grid_search}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
