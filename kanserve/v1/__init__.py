"""kanserve.v1.FormulaService: messages and service generated from protos/kanserve/v1."""
