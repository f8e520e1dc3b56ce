import pytest

from benchmarks import edge
from tests.support.programs import want


@pytest.mark.slow
@pytest.mark.extended
def test_programs_for_a_cortex_m0_are_measured_and_give_our_bits(monkeypatch):
    target = edge.TARGETS["Cortex-M0+"]
    for program in ("arm-none-eabi-gcc", "qemu-arm"):
        want(program)
    kan, x, y = edge.fitted()
    instructions, flash, stack = edge.measure(target, *edge.network_sources(kan, "int16"))
    in_float, _, _ = edge.measure(target, *edge.network_sources(kan, "float"))
    assert 100 < instructions < edge.SHARE * in_float
    assert flash < edge.FLASH and stack < edge.RAM
    monkeypatch.setattr(edge, "CHECKED", 200)
    assert "met: the same bits" in edge.bits_table(kan)
    assert "proven" in edge.errors(kan, x, y)["int8"]
