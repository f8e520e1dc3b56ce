"""Powers with a real exponent that tests try beside the rows of the table of functions: of each kind, up and down."""

POWERS = (
    *("x^(1/3)", "x^(5/3)", "x^(2/3)", "x^(4/3)", "x^(3/4)", "x^(5/2)", "x^1.37", "x^0.05"),
    *("1/x^(1/3)", "1/x^(5/3)", "1/x^(2/3)", "1/x^(3/4)", "1/x^1.37"),
)
