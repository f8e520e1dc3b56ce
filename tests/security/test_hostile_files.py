"""Of files that were changed on purpose each is read or refused, and nothing else happens."""

from collections.abc import Callable

import pytest

from tests.support.faults import artifact_mutations

pytestmark = pytest.mark.slow


@pytest.mark.extended
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (artifact_mutations.trees, 5_000),
        (artifact_mutations.manifests, 10_000),  # half by bytes, half by values
        (artifact_mutations.golden, 5_000),
        (artifact_mutations.networks, 2_500),  # of which each is evaluated
    ],
)
def test_mutated_files_raise_the_declared_errors_only(make: Callable[[int], int], count: int) -> None:
    refused = make(count)
    print(f"{refused} of {count} mutated {make.__name__} refused; the others read, and nothing else raised")
    assert refused > count / 2
