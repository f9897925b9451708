"""The network: backbone and pyramid, proposals, pooling, stages."""
