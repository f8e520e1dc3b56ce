"""The loaded models, and how they change."""
