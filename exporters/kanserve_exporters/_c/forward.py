"""A row through the layers in C, as `@predict` and the derivatives compute it; `@` is the prefix."""

from collections.abc import Sequence

from kanserve.network.encoding import encodes
from kanserve.network.kan import Kan
from kanserve_exporters._c.encoding import encode
from kanserve_exporters._c.layers import has_domain, is_affine
from kanserve_exporters._shared.expressions import Dialect, when
from kanserve_exporters._shared.layer_tables import Parts


def values(kan: Kan, layers: Sequence[Parts], places: Sequence[str], dialect: Dialect, fail: str) -> list[str]:
    """Statements that compute the values of the nodes of each layer, those of the inputs first, at these places from
    the row x; `fail` is the call for a code, with the placeholder {}."""

    def checked(place: str, count: int | str, code: str) -> str:
        return f"if (!@finite({place}, {count})) return {fail.format(code)};"

    shifted = is_affine(kan.input_shift, kan.input_scale)
    first = places[0]
    source = first if encodes(kan) else "x"
    value = f"({source}[i] - @input_shift[i])/@input_scale[i]" if shifted else f"{source}[i]"
    lines = [
        *when(encodes(kan), f"for (i = 0; i < @N_IN; i++) {first}[i] = {encode(kan, 'x[i]')};"),
        checked(source, "@N_IN", "@ERROR_INPUT"),
        *when(value != f"{first}[i]", f"for (i = 0; i < @N_IN; i++) {first}[i] = {value};"),
        *when(shifted, checked(first, "@N_IN", "@ERROR_RESULT")),
    ]
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        here, there, own = places[number], places[number + 1], has_domain(part, dialect)
        code = "outside ? @ERROR_DOMAIN : @ERROR_RESULT" if own else "@ERROR_RESULT"
        lines += [
            f"@layer_{number}({here}, {there}{', &outside' if own else ''});",
            checked(there, layer.nodes, code),
        ]
    return lines
