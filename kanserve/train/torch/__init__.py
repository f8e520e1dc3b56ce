"""Networks as torch modules, and training by gradients."""
