"""The explorer: every proposal's box and feature through the stages, in a browser."""
