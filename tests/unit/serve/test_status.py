from collections.abc import Iterator

import grpc
import pytest

from kanserve import errors
from kanserve.serve import status


def tree(root: type[errors.KanserveError]) -> Iterator[type[errors.KanserveError]]:
    yield root
    for subclass in root.__subclasses__():
        if subclass.__module__ == "kanserve.errors":
            yield from tree(subclass)


def test_every_error_has_a_row_of_its_own():
    assert set(status.CODES) == set(tree(errors.KanserveError))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TensorError, status.Code.INVALID_ARGUMENT),
        (errors.NotFoundError, status.Code.NOT_FOUND),
        (errors.GoldenError, status.Code.FAILED_PRECONDITION),
        (errors.BusyError, status.Code.RESOURCE_EXHAUSTED),
        (errors.DrainingError, status.Code.UNAVAILABLE),
        (errors.DeadlineError, status.Code.DEADLINE_EXCEEDED),
    ],
)
def test_an_error_raised_on_purpose_keeps_its_text_and_its_name(error, code):
    said = status.failure(error("Wanted this, got that."))
    assert said == status.Failure(code, "Wanted this, got that.", error.__name__)
    assert said.metadata == (("kanserve-error", error.__name__),)


def test_an_error_below_one_of_the_tree_is_told_as_that_one():
    class Later(errors.TensorError):
        pass

    assert status.failure(Later("no")).error == "TensorError"


@pytest.mark.parametrize("error", [RuntimeError("/a/path"), KeyError("a secret"), errors.KanserveError("unsorted")])
def test_the_text_of_an_unknown_error_reaches_no_client(error):
    assert status.failure(error) == status.Failure(status.Code.INTERNAL, "internal error")
    assert status.failure(error).metadata == ()


def test_a_text_is_cut_to_what_a_client_accepts():
    assert len(status.failure(errors.TensorError("x" * 100_000)).text) == 500


def test_the_codes_are_those_of_grpc():
    assert {code.name: code.value for code in status.Code} == {code.name: code.value[0] for code in grpc.StatusCode}
