"""Pictures in, Detections out: reading, resizing, batches, and the detector around the model."""
