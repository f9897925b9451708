"""The drawn shapes: a data set that is painted on demand."""
