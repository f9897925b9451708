"""Analyses that run a detector over a data set. Each is cached and continues where it stopped."""
