"""Analyses that run a detector over a data set. Each is kept by content, and goes on if stopped."""
