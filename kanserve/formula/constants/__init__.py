"""Constants of a formula: recognised exactly, rounded within noise, fitted, and with standard errors."""
