"""Box geometry against numbers worked out by hand, and conversions against their inverses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops

BOX = torch.tensor([10.0, 20.0, 40.0, 100.0])  # 30 wide, 80 high
positions = st.floats(-500, 500, width=32)
sides = st.floats(1, 300, width=32)
boxes = st.tuples(positions, positions, sides, sides)


def xyxy(x: float, y: float, w: float, h: float) -> Tensor:
    return torch.tensor([x, y, x + w, y + h], dtype=torch.float64)


def test_formats_by_hand():
    """Catches width and height exchanged, or a size that counts pixels (+1)."""
    assert box_ops.xyxy_to_cxcywh(BOX).tolist() == [25, 60, 30, 80]
    assert box_ops.xyxy_to_xywh(BOX).tolist() == [10, 20, 30, 80]
    assert box_ops.area(BOX).item() == 2400


@given(positions, positions, sides, sides)
def test_formats_and_back(x, y, w, h):
    """Catches a conversion that is not the inverse of its partner."""
    box = xyxy(x, y, w, h).expand(2, 3, 4)
    cxcywh = box_ops.cxcywh_to_xyxy(box_ops.xyxy_to_cxcywh(box))
    torch.testing.assert_close(cxcywh, box)
    torch.testing.assert_close(box_ops.xywh_to_xyxy(box_ops.xyxy_to_xywh(box)), box)


def test_clip_takes_height_first():
    """Catches x clipped to the height, or only one corner clipped."""
    box = torch.tensor([[-5.0, -6.0, 70.0, 90.0], [60.0, 50.0, 65.0, 55.0]])
    wanted = [[0, 0, 50, 40], [50, 40, 50, 40]]
    assert box_ops.clip(box, height=40, width=50).tolist() == wanted
    assert box_ops.clip_to_sizes(box, torch.tensor([40.0, 50.0])).tolist() == wanted


def test_rescale_and_size():
    """Catches (height, width) taken for (x, y)."""
    scale = torch.tensor([2.0, 3.0])
    assert box_ops.rescale(BOX[None], scale).tolist() == [[20, 60, 80, 300]]
    many = box_ops.rescale(BOX.expand(2, 5, 4), torch.tensor([[2.0, 3.0], [1.0, 1.0]]))
    assert many[0, 4].tolist() == [20, 60, 80, 300]
    assert many[1, 4].tolist() == BOX.tolist()
    assert box_ops.size_as_whwh(torch.tensor([480, 640])).tolist() == [640, 480, 640, 480]


def test_iou_by_hand():
    """Catches a wrong union, rows and columns exchanged, GIoU without its penalty."""
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 4.0, 1.0]])
    wanted = torch.tensor([[1 / 7, 1, 0], [0, 1 / 4, 0]])
    torch.testing.assert_close(box_ops.iou(a, b), wanted)
    hulls = torch.tensor([[9.0, 4, 8], [9, 4, 4]])
    unions = torch.tensor([[7.0, 4, 5], [5, 4, 2]])
    torch.testing.assert_close(box_ops.giou(a, b), wanted - (hulls - unions) / hulls)
    torch.testing.assert_close(box_ops.paired_giou(a, b[:2]), box_ops.giou(a, b).diagonal())
    assert box_ops.giou(a.expand(5, 2, 2, 4), b).shape == (5, 2, 2, 3)


@given(boxes, boxes)
def test_overlap_ranges(first, second):
    """Catches an IoU outside 0..1, a GIoU above it or below -1, or not symmetric."""
    a, b = xyxy(*first), xyxy(*second)
    iou, giou = box_ops.paired_iou(a, b), box_ops.paired_giou(a, b)
    assert 0 <= iou <= 1 + 1e-9
    assert -1 - 1e-9 <= giou <= iou + 1e-9
    torch.testing.assert_close(giou, box_ops.paired_giou(b, a))
    assert box_ops.paired_giou(a, a).item() == pytest.approx(1)


def test_boxes_of_no_area():
    """Catches NaN in loss or gradient where a box has collapsed to a point."""
    point = torch.tensor([5.0, 5, 5, 5], requires_grad=True)
    for other in (torch.tensor([5.0, 5, 5, 5]), torch.tensor([0.0, 0, 9, 9])):
        value = box_ops.paired_giou(point, other)
        (gradient,) = torch.autograd.grad(value, point)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_decoding_is_clamped_both_ways_and_not_clipped():
    """Catches a side that explodes to infinity or vanishes, or boxes clipped between stages."""
    deltas = torch.tensor([[-100.0, 0, 50, -50]])
    width, height = box_ops.xyxy_to_xywh(box_ops.decode_deltas(BOX[None], deltas))[0, 2:].tolist()
    assert width == pytest.approx(30 * 62.5, rel=1e-4)
    assert height == pytest.approx(80 / 62.5, rel=1e-3)
    assert box_ops.decode_deltas(BOX[None], deltas)[0, 2] < 0


@given(boxes, boxes)
def test_encoding_is_the_inverse(first, second):
    """Catches an encoder and a decoder that disagree (denoising trains on the encoder)."""
    a, b = xyxy(*first), xyxy(*second)
    ratio = ((b[2:] - b[:2]) / (a[2:] - a[:2])).log().abs().max()
    if ratio < box_ops.MAX_LOG_SCALE:
        decoded = box_ops.decode_deltas(a, box_ops.encode_deltas(a, b))
        torch.testing.assert_close(decoded, b, rtol=1e-5, atol=1e-4)
