"""Constants of a formula: fitting, recognition in exact and in noisy data, and standard errors."""
