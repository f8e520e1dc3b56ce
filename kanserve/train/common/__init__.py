"""Parts of every fit: settings, checkpoints, progress, scores, normalisation, initial weights and grids."""
