"""The serving processes: a single one, or a supervisor with its workers."""
