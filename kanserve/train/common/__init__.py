"""Parts of every fit: settings, checkpoints, progress, scores, normalising, first weights and grids."""
