"""A formula's LaTeX as MathML, which browsers typeset without scripts and fonts of their own. It reads the LaTeX that
`kanserve.formula` writes. Every text is escaped."""

import re
from html import escape

_TOKEN = re.compile(r"\\left\s*[(|]|\\right\s*[)|]|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_TEXT = re.compile(r"\{((?:[^{}\\]|\\textbackslash\{\}|\\text\w+\{\}|\\.)*)\}")
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_LETTERS = {name: chr(0x3B1 + n) for n, name in enumerate(_GREEK)} | {
    name.capitalize(): chr(0x391 + n) for n, name in enumerate(_GREEK) if name != "varsigma"
}
_ESCAPED = {r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~"}
_SIGNS = {"+": "+", "-": "−", "=": "=", ",": ",", "/": "/", "(": "(", ")": ")"}


def mathml(latex: str, name: str = "") -> str:
    """The formula as a <math> element, preceded by the output's `name` if given."""
    left = f"{_word(name)}<mo>=</mo>" if name else ""
    return f"<math displaystyle='true'><mrow>{left}{_Reader(latex).row()}</mrow></math>"


def _word(name: str) -> str:
    return f"<mi>{escape(name)}</mi>"


class _Reader:
    """Reads LaTeX from left to right."""

    def __init__(self, latex: str) -> None:
        self.latex, self.at = latex, 0

    def row(self) -> str:
        """Read and consume everything up to a closing brace or bracket, or the end."""
        parts: list[str] = []
        while self.at < len(self.latex):
            token = self._next()
            if token == "}" or token.startswith(r"\right"):
                break
            if token.isspace():
                continue
            if token in "^_":
                self._script(parts, token)
            else:
                parts.append(self._part(token, parts))
        return "".join(parts)

    def _next(self) -> str:
        found = _TOKEN.match(self.latex, self.at)
        assert found is not None  # it matches any character
        self.at = found.end()
        return found[0]

    def _group(self) -> str:
        """Read the contents of the next braces."""
        token = self._next()
        return f"<mrow>{self.row()}</mrow>" if token == "{" else self._part(token, [])

    def _raw(self) -> str:
        """Read the text in the next braces, without LaTeX's escapes."""
        found = _TEXT.match(self.latex, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return re.sub(r"\\text\w+\{\}|\\(.)", lambda part: _ESCAPED.get(part[0], part[1] or ""), found[1])

    def _script(self, parts: list[str], sign: str) -> None:
        base = parts.pop() if parts else "<mrow></mrow>"
        kind = "msup" if sign == "^" else "msub"
        parts.append(f"<{kind}>{base}{self._group()}</{kind}>")

    def _part(self, token: str, before: list[str]) -> str:
        if token.startswith(r"\left"):
            fence = "(" if "(" in token else "|"
            inside = self.row()
            close = ")" if fence == "(" else "|"
            return f'<mrow><mo fence="true">{fence}</mo>{inside}<mo fence="true">{close}</mo></mrow>'
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token == "{":
            return f"<mrow>{self.row()}</mrow>"
        if token in _SIGNS:
            # A sign at the beginning belongs to the number after it.
            form = ' form="prefix"' if token == "-" and not before else ' lspace="0" rspace="0"' if token == "/" else ""
            return f"<mo{form}>{_SIGNS[token]}</mo>"
        if token[0] == "\\":
            return self._command(token[1:])
        return f"<mi>{escape(token)}</mi>"

    def _command(self, name: str) -> str:
        match name:
            case "frac":
                return f"<mfrac>{self._group()}{self._group()}</mfrac>"
            case "sqrt":
                return f"<msqrt>{self._group()}</msqrt>"
            case "text" | "mathrm" | "operatorname":
                text = f"<mi>{escape(self._raw())}</mi>"
                return f"{text}<mo>&#x2061;</mo>" if name == "operatorname" else text
            case "cdot":
                return "<mo>·</mo>"
            case "dots":
                return "<mo>…</mo>"
            case _ if name in _LETTERS:
                return f"<mi>{_LETTERS[name]}</mi>"
        return f"<mi>{escape(name)}</mi><mo>&#x2061;</mo>" if name.isalpha() else f"<mo>{escape(name)}</mo>"
