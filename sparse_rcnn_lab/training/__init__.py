"""Matching, losses and the training loop."""
