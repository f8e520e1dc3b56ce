"""The comparison of a change's results with those of the commit before it."""

import pytest

from tests.support.result_digests import cases, differences


def test_what_differs_or_is_missing_is_listed():
    then, now = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}
    assert differences(then, now) == ["b: differs", "c: in one of the trees alone", "d: in one of the trees alone"]
    assert differences(now, dict(now)) == []


@pytest.mark.extended
def test_the_results_are_about_eighty_and_the_same_each_time():
    known = {case.name: case for case in cases()}
    assert len(known) == len(list(cases())) >= 75
    for name in ("fit, lm", "export, one_edge"):
        assert known[name].compute() == known[name].compute() != b""
