"""Folders of images with COCO json: ``records`` reads and checks the fields, ``audit`` mends and
notes what looks wrong, ``annotations`` makes arrays of them, ``folder`` is the data set,
``image_files`` finds its images, ``mended`` writes a copy in which nothing is left to mend.
"""
