"""The processes that serve: one alone, or a supervisor and its workers."""
