"""The texts of errors are read as a whole: what users see when something is wrong."""

import pytest

from tests.support.error_texts import FILE, VALUE, lines, texts


@pytest.mark.slow
@pytest.mark.extended
def test_the_file_has_the_texts_of_the_sources():
    there = FILE.read_text("utf-8").splitlines()
    assert there == lines(), "python -m tests.support.error_texts"


def test_texts_are_found_with_what_is_filled_in():
    source = (
        'raise InputError(f"No {name!r}. " "Give one.")\n'
        'warnings.warn("It is slow.", FitWarning, stacklevel=2)\n'
        'errors.DataError("Bad: " + text)\n'
        "raise DataError(text)\n"
        'print("no error")\n'
    )
    assert list(texts(source)) == [
        f"InputError: No {VALUE}. Give one.",
        "FitWarning: It is slow.",
        f"DataError: Bad: {VALUE}",
    ]
