"""The demo app: a page (Explore, Live, Photo, Draw, Video, Compare, Teach) and its endpoints.

``apps/demo.py`` starts it. A :class:`ViewState` holds the values of the controls, whoever sends it
(a tab, an endpoint, the webcam's script), and :class:`Viewer` turns it and an image into
detections and a drawn image, a :class:`View`. ``docs/app.md`` says what is in which file.

Only ``page`` and what it lays out need Gradio (:func:`serve` imports them). This room may import
every other one except ``cli`` and ``course``.
"""

from sparse_rcnn_lab.app.server import Address, serve
from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage, Limits, read_input
from sparse_rcnn_lab.app.viewer import View, Viewer, models_to_offer

__all__ = [
    "Address",
    "InputImage",
    "Limits",
    "View",
    "ViewState",
    "Viewer",
    "models_to_offer",
    "read_input",
    "serve",
]
