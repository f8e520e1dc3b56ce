"""Expression trees: steps, parsing, linear forms, complexity, interval bounds and storage."""
