"""Folders of images with COCO json: ``records`` reads and checks the fields, ``annotations`` cleans
them into arrays, ``folder`` is the data set.
"""
