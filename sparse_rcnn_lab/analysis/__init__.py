"""Functions from traces to small tables."""
