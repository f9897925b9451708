"""What a course is held with: lessons to read and run, assignments that grade themselves.

- ``lessons``: what the cells of ``notebooks/`` call, and how those notebooks are made, run and
  published (``python -m sparse_rcnn_lab.course.lessons --help``)
- ``classroom``: assignments from their sources to the marks (``sparse-rcnn-lab classroom --help``,
  docs/classroom.md)

Public names: those of ``lessons.__all__``. May import any room but ``app`` and ``cli``; of the
rooms only ``cli`` imports it.
"""
