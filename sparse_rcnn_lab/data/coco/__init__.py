"""COCO-json folders: their layout, their annotations, the data set made of both."""
