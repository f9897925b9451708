"""The demo app: one page with the tabs Live, Photo, Video, Compare and Explore, and its endpoints.

``apps/demo.py`` starts it. One :class:`~sparse_rcnn_lab.app.state.ViewState` says where the
controls stand, whoever sends it (a tab, an endpoint, the webcam's script), and
:class:`~sparse_rcnn_lab.app.viewer.Viewer` turns it and an image into detections and a drawn image.

Without Gradio: ``state``, ``viewer``, ``inputs``, ``readouts``, ``downloads``, ``video``,
``server``. With it: ``page`` and the modules that it lays out.

May import every room but ``cli`` and ``course``.
"""
