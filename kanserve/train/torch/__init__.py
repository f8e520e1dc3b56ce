"""Networks as torch modules, and training by LBFGS and Adam."""
