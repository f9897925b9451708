"""Data sets, the drawn shapes, and training augmentation."""
