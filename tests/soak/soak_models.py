"""SECURITY.md's tests 6, 7 and 8 at full length, and what a large model that is loaded costs the others.

    python -m tests.soak.soak_models

Prints each number, and ends with 1 where one is not what it must be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kanserve.artifact.format import Artifact, assemble
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import finite_rows
from kanserve.serve.settings import Settings
from tests.support.faults import full_disks
from tests.support.networks.kans import one_edge
from tests.support.servers import reload_checks

Said = tuple[bool, str]


def main() -> int:
    failures = 0
    with TemporaryDirectory(prefix="kanserve-soak-") as folder:
        for number, soak in enumerate((reloaded, corrupted, killed, filled, disturbed)):
            for good, text in soak(Path(folder) / str(number)):
                print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)
                failures += not good
    return min(1, failures)


def reloaded(root: Path) -> Iterator[Said]:
    found, before, after = reload_checks.reloads(root, 100, every=0.6)
    answers = sum(sum(reading.answers.values()) for reading in found)
    versions = len(set().union(*(reading.answers for reading in found)))
    errors, wrong = sum(len(reading.errors) for reading in found), sum(reading.wrong for reading in found)
    yield errors == 0, f"6: 100 reloads in 60 s: {answers} answers by {versions} versions, {errors} errors"
    yield wrong == 0, f"6: {wrong} answers are not those of the version that they name"
    grown = after.megabytes - before.megabytes
    yield grown < 8, f"6: memory {before.megabytes:.1f} MB before, {after.megabytes:.1f} MB after"
    # The pool keeps as many threads in reserve as answer at once, once a busy moment has made them.
    most = before.threads + Settings.threads
    yield after.threads <= most, f"6: {before.threads} threads before, {after.threads} after"
    yield (
        after.descriptors <= before.descriptors,
        f"6: {before.descriptors} descriptors before, {after.descriptors} after",
    )


def corrupted(root: Path) -> Iterator[Said]:
    found, reason = reload_checks.corrupted(root, 10.0)
    answers = sum(reading.answers.get("1", 0) for reading in found)
    good = all(set(reading.answers) == {"1"} and not reading.errors and not reading.wrong for reading in found)
    yield good, f"7: {answers} answers by version 1 beside a corrupt version 2, of which the index says: {reason}"


def killed(root: Path) -> Iterator[Said]:
    points = full_disks.killed(root, _many_files(), 400)
    yield points >= 50, f"8: a publisher killed at {points} points, no partial version seen"


def filled(root: Path) -> Iterator[Said]:
    points = full_disks.limited(root, _many_files(), 100)
    yield points >= 50, f"8: a file that may not grow, at {points} points, no partial version seen"
    try:
        points = full_disks.filled(root.with_name("disk"), _many_files())
    except PermissionError:
        yield True, "8: no disk of 1 MB could be mounted here"
    else:
        yield points > 5, f"8: a disk of 1 MB full at {points} points, no partial version seen"


def disturbed(root: Path) -> Iterator[Said]:
    alone, busy, loads = reload_checks.disturbed(root, 5, 4.0)
    quiet, noisy = (
        np.median([np.percentile(reading, [50, 99]) for reading in rounds], axis=0) * 1e3 for rounds in (alone, busy)
    )
    yield (
        noisy[1] < 2 * quiet[1],
        f"a small model's p50 and p99 {quiet[0]:.2f} and {quiet[1]:.2f} ms alone, {noisy[0]:.2f} and {noisy[1]:.2f} ms "
        f"while a large one is loaded {loads} times (medians of 5 rounds); wanted p99 < 2x",
    )


def _many_files() -> Artifact:
    x = finite_rows(one_edge(), 3)
    parts = {f"numpy_source/part{number}.py": b"x" * 100 * number for number in range(40)}
    return assemble(one_edge(), parts, formulas=[{"text": "y"}], golden=(x, evaluate(one_edge(), x)))


if __name__ == "__main__":
    sys.exit(main())
