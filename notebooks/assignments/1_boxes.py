# %% [markdown]
# # Assignment 1: boxes
#
# A detector says where things are with boxes. Before any network can learn, four small tools must
# be exactly right: two formats of a box, the overlap of two boxes (IoU), an overlap that also
# measures how far apart boxes are (GIoU), and the code in which a network says how a box shall
# move.
#
# **Time:** 60 to 90 minutes. **Marks:** 20. **You need:** Python, this package, JupyterLab; a CPU.
#
# | task | marks |
# | --- | --- |
# | 1. two formats | 4 |
# | 2. area and IoU | 6 |
# | 3. GIoU | 4 |
# | 4. box deltas | 4 |
# | 5. think before you compute | 2 |
#
# **How it works**
#
# - Write where it says `Your code here`, and remove the line `raise NotImplementedError` below it.
# - Below each task are test cells. Run them: they say what is right, and what is not yet.
#   They are locked; when your work is graded they are restored, and hold more tests than you see.
# - One test cell is one mark. A mistake in one task costs nothing in the next: while one function
#   is tested, correct versions stand in for the others.
# - Write the functions yourself: those of this package and of torchvision refuse to be called here.
# - In the end: *Kernel, Restart kernel and run all cells*: it goes on below a test that fails.
#   Then hand in this file.

# %% tags=["build"]
import torch

from sparse_rcnn_lab.core import boxes as ops
from sparse_rcnn_lab.course.classroom.checks import boxes as check
from sparse_rcnn_lab.course.classroom.vary import V

V.first = V.box()
V.first_c = ops.xyxy_to_cxcywh(torch.tensor(V.first)).tolist()
V.formats = V.boxes(3)
V.formats_c = ops.xyxy_to_cxcywh(V.formats)
V.formats_corner = ops.xyxy_to_xywh(V.formats)
V.formats_swapped = V.formats_c[:, [1, 0, 3, 2]]
V.batch = V.boxes(6).view(2, 3, 4)
V.batch_c = ops.xyxy_to_cxcywh(V.batch)
# What students see is another set than what grades them.
V.seen = V.boxes(3)
V.seen_c = ops.xyxy_to_cxcywh(V.seen)
V.back_corner = ops.xywh_to_xyxy(V.seen_c)

# A box, a shift that leaves an overlap, and the numbers of the example in the text.
w, h = 2 * V.whole(10, 20), 2 * V.whole(22, 30)
x, y = V.whole(5, 20), V.whole(5, 20)
V.ex_a = [float(x), float(y), float(x + w), float(y + h)]
V.ex_b = [x + w / 2, float(y), x + w / 2 + w, float(y + h)]
V.ex_iou = ops.iou(torch.tensor([V.ex_a]), torch.tensor([V.ex_b])).item()

V.areas = ops.area(V.seen)
V.areas_one = V.areas + (V.seen[:, 2:] - V.seen[:, :2]).sum(1) + 1
V.a, V.b = V.boxes(4), V.boxes(3)
while len(ops.iou(V.a, V.b).unique()) < 5:  # else another order of the pairs might look the same
    V.a, V.b = V.boxes(4), V.boxes(3)
# Apart in both directions: both sides of the intersection are negative, their product is not.
left, gap = V.whole(5, 15), V.whole(20, 30)
V.apart_a = torch.tensor([[0.0, 0.0, left, left + 4.0]])
V.apart_b = torch.tensor([[left + gap, left + gap + 6.0, 95.0, 99.0]])
V.below_b = torch.tensor([[0.0, left + gap, left + 4.0, 99.0]])  # apart in y alone
V.touch_b = torch.tensor([[float(left), 0.0, left + 20.0, left + 4.0]])
m = 2 * V.whole(6, 12)
V.outer = torch.tensor([[10.0, 10.0, 10.0 + 4 * m, 10.0 + 2 * m]])
V.inner = torch.tensor([[10.0 + m, 10.0, 10.0 + 2 * m, 10.0 + m]])
V.inner_iou = ops.iou(V.outer, V.inner)
V.flat = torch.tensor([[20.0, 20.0, 20.0, 20.0]])

V.c, V.d = V.boxes(4), V.boxes(3)
V.cd_iou, V.cd_giou = ops.iou(V.c, V.d), ops.giou(V.c, V.d)
V.apart_giou = ops.giou(V.apart_a, V.apart_b)
V.apart_iou = ops.iou(V.apart_a, V.apart_b)
V.far_b = V.apart_b + 100
V.far_giou = ops.giou(V.apart_a, V.far_b)
V.ex_far = [v + 2 * w if i % 2 == 0 else v for i, v in enumerate(V.ex_a)]
V.ex_giou = ops.giou(torch.tensor([V.ex_a]), torch.tensor([V.ex_far])).item()

V.from_boxes, V.to_boxes = V.boxes(3), V.boxes(3)
V.deltas = ops.encode_deltas(V.from_boxes, V.to_boxes)
V.deltas_unscaled = V.deltas * torch.tensor(ops.DELTA_SCALE)
V.steps = V.normal(3, 4, scale=0.6)
V.moved = ops.decode_deltas(V.from_boxes, V.steps)
V.moved_unscaled = ops.decode_deltas(V.from_boxes, V.steps * torch.tensor([2.0, 2.0, 1.0, 1.0]))
V.near, V.far = torch.tensor([[1.0, 1.0, 2.0, 3.0]]), torch.tensor([[0.0, 60.0, 99.0, 320.0]])
V.far_deltas = ops.encode_deltas(V.near, V.far)  # beyond the limit, all of them
V.step = torch.tensor([[V.whole(30, 40) / 10, -V.whole(30, 40) / 10, 0.0, 0.0]])
V.huge = torch.tensor([[0.0, 0.0, 9.0, -9.0]])
V.huge_moved = ops.decode_deltas(V.from_boxes[:1], V.huge)

V.k = V.one_of([3, 4, 5])
V.shift_iou = (V.k - 1) / (V.k + 1)
V.grow = V.one_of([2, 3])
V.grow_iou = 1 / V.grow**2

# %% locked="imports"
import torch

# %% [markdown]
# ## 1. Two formats
#
# `xyxy` is left, top, right, bottom: `[x1, y1, x2, y2]`, in pixels. `cxcywh` is centre, width and
# height: `[cx, cy, w, h]`. Coordinates are continuous: the width is `x2 - x1`, nothing is added.
#
# The functions take `[..., 4]`: any number of leading dimensions, so the last one holds the box.
#
# <details><summary>Hint</summary>
#
# `boxes.unbind(-1)` gives the four coordinates whatever stands before them, and
# `torch.stack([...], dim=-1)` puts four numbers together again.
# </details>


# %% solution="formats"
def to_cxcywh(boxes):
    """[..., 4] xyxy -> [..., 4] centre x, centre y, width, height."""
    ### BEGIN SOLUTION
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)
    ### END SOLUTION


def to_xyxy(boxes):
    """[..., 4] centre x, centre y, width, height -> [..., 4] xyxy."""
    ### BEGIN SOLUTION
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    ### END SOLUTION


# %% test="formats-to-cxcywh"
# 1 mark: the right numbers
check(
    to_cxcywh,
    torch.tensor([V.first]),
    gives=torch.tensor([V.first_c]),
)
### BEGIN HIDDEN TESTS
check(
    to_cxcywh,
    V.formats,
    gives=V.formats_c,
    hints={
        "This is the corner with width and height, not the centre.": V.formats_corner,
        "It looks as if x and y changed places.": V.formats_swapped,
    },
)
### END HIDDEN TESTS

# %% test="formats-to-xyxy"
# 1 mark: the right numbers, the other way
check(
    to_xyxy,
    V.seen_c,
    gives=V.seen,
    hints={"cx, cy is the centre, not the corner.": V.back_corner},
)
### BEGIN HIDDEN TESTS
check(to_xyxy, V.batch_c[0], gives=V.batch[0])
### END HIDDEN TESTS


# %% test="formats-leading"
# 1 mark: both also take a batch, and a single box (hidden)
### BEGIN HIDDEN TESTS
def as_one_by_one(function, boxes):
    alone = [function(box[None].clone())[0] for box in boxes.view(-1, 4)]
    return torch.allclose(function(boxes), torch.stack(alone).view(boxes.shape), atol=1e-3)


for function in (to_cxcywh, to_xyxy):
    check(lambda b, f=function: list(f(b).shape), V.batch, of=function, gives=[2, 3, 4])
    check(lambda b, f=function: list(f(b).shape), V.batch[0, 0], of=function, gives=[4])
    check(
        lambda b, f=function: as_one_by_one(f, b),
        V.batch,
        of=function,
        gives=True,
        hints={"A batch should give what its boxes give one by one.": False},
    )
### END HIDDEN TESTS


# %% test="formats-untouched"
# 1 mark: the input is left as it was (hidden)
### BEGIN HIDDEN TESTS
def unchanged(function, boxes):
    before = boxes.clone()
    function(boxes)
    return torch.equal(before, boxes)


check(lambda b: unchanged(to_cxcywh, b), V.formats, of=to_cxcywh, gives=True)
check(lambda b: unchanged(to_xyxy, b), V.formats_c, of=to_xyxy, gives=True)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Area and IoU
#
# The IoU (intersection over union) of two boxes is the area they share, divided by the area they
# cover together: 1 for equal boxes, 0 for boxes that do not touch. For example `{V.ex_a}` and
# `{V.ex_b}` have the same size, and each covers half of the other: their IoU is {V.ex_iou}.
#
# `iou` compares every box of the first list with every box of the second: `[N, 4]` and `[M, 4]`
# give `[N, M]`. Two boxes without any area have the IoU 0, not `nan`.
#
# <details><summary>Hint 1: all pairs</summary>
#
# `a[:, None]` has the shape `[N, 1, 4]`, `b[None]` has `[1, M, 4]`. What PyTorch computes from both
# has `[N, M, ...]`.
# </details>
# <details><summary>Hint 2: the intersection</summary>
#
# It is a box itself: its left is the larger of both lefts, its right the smaller of both rights.
# Where that box is inside out, nothing is shared. What is the product of two negative sides?
# </details>


# %% solution="iou"
def area(boxes):
    """[..., 4] xyxy -> [...] the area of each box."""
    ### BEGIN SOLUTION
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    ### END SOLUTION


def iou(a, b):
    """The IoU of every pair: [N, 4] and [M, 4] xyxy -> [N, M]."""
    ### BEGIN SOLUTION
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    side = (bottom_right - top_left).clamp(min=0)
    shared = side[..., 0] * side[..., 1]
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=1e-6)
    ### END SOLUTION


# %% test="iou-area"
# 1 mark: the area
check(
    area,
    V.seen,
    gives=V.areas,
    hints={"Coordinates are continuous: nothing is added to a side.": V.areas_one},
)
### BEGIN HIDDEN TESTS
check(area, V.a, gives=(V.a[:, 2] - V.a[:, 0]) * (V.a[:, 3] - V.a[:, 1]))
### END HIDDEN TESTS

# %% test="iou-values"
# 1 mark: boxes that overlap, one with one
check(
    iou,
    torch.tensor([V.ex_a]),
    torch.tensor([V.ex_b]),
    gives=torch.tensor([[V.ex_iou]]),
)
### BEGIN HIDDEN TESTS
check(iou, V.outer, V.inner, gives=V.inner_iou)
check(iou, V.inner, V.outer, gives=V.inner_iou)
### END HIDDEN TESTS

# %% test="iou-same"
# 1 mark: a box and itself
check(
    iou,
    torch.tensor([V.first]),
    torch.tensor([V.first]),
    gives=torch.tensor([[1.0]]),
)
### BEGIN HIDDEN TESTS
check(iou, V.formats[:1], V.formats[:1], gives=torch.tensor([[1.0]]))
### END HIDDEN TESTS

# %% test="iou-apart"
# 1 mark: boxes that do not overlap
check(
    iou,
    torch.tensor([[0.0, 0.0, 10.0, 20.0]]),
    torch.tensor([[30.0, 0.0, 40.0, 20.0]]),
    gives=torch.tensor([[0.0]]),
)
### BEGIN HIDDEN TESTS
check(iou, V.apart_a, V.apart_b, gives=torch.tensor([[0.0]]))
check(iou, V.apart_a, V.below_b, gives=torch.tensor([[0.0]]))
check(iou, V.apart_a, V.touch_b, gives=torch.tensor([[0.0]]))
### END HIDDEN TESTS


# %% test="iou-pairs"
# 1 mark: every pair; as many rows as a has boxes (hidden)
### BEGIN HIDDEN TESTS
def as_pair_by_pair(a, b):
    table = iou(a, b)
    alone = torch.stack([torch.cat([iou(p[None], q[None])[0] for q in b]) for p in a])
    return bool(torch.allclose(table, alone, atol=1e-4) and table.max() > table.min())


check(lambda a, b: list(iou(a, b).shape), V.a, V.b, of=iou, gives=[4, 3])
check(
    lambda a, b: as_pair_by_pair(a, b),
    V.a,
    V.b,
    of=iou,
    gives=True,
    hints={"Row i, column j: box i of a with box j of b, as if they were alone.": False},
)
### END HIDDEN TESTS

# %% test="iou-empty"
# 1 mark: a box without area gives 0, not nan; no box at all gives an empty table (hidden)
### BEGIN HIDDEN TESTS
check(iou, V.flat, V.flat, gives=torch.tensor([[0.0]]))
check(lambda a, b: list(iou(a, b).shape), V.a, torch.zeros(0, 4), of=iou, gives=[4, 0])
### END HIDDEN TESTS

# %% [markdown]
# ## 3. GIoU
#
# Two boxes that do not touch have the IoU 0, ten pixels apart or a thousand: a network that is told
# only this does not learn where to go. The generalised IoU looks at the *hull*, the smallest box
# around both, and subtracts the share of it that neither covers:
#
# $$\mathrm{GIoU} = \mathrm{IoU} - \frac{|\mathrm{hull}| - |\mathrm{union}|}{|\mathrm{hull}|}$$
#
# It is 1 for equal boxes and falls towards -1 the further they are apart. For `{V.ex_a}` and
# `{V.ex_far}` it is {V.ex_giou}.
#
# <details><summary>Hint</summary>
#
# The hull is what the intersection is, with smaller and larger exchanged. It can never be inside
# out. You need the union again: write a helper that `iou` and `giou` both use, or compute it twice.
# </details>


# %% solution="giou"
def giou(a, b):
    """The generalised IoU of every pair: [N, 4] and [M, 4] xyxy -> [N, M], -1 to 1."""
    ### BEGIN SOLUTION
    overlap = iou(a, b)
    total = area(a)[:, None] + area(b)[None]
    union = total / (1 + overlap)  # IoU = (total - union) / union
    low = torch.minimum(a[:, None, :2], b[None, :, :2])
    high = torch.maximum(a[:, None, 2:], b[None, :, 2:])
    hull = (high - low).prod(-1)
    return overlap - (hull - union) / hull.clamp(min=1e-6)
    ### END SOLUTION


# %% test="giou-inside"
# 1 mark: where the hull is the larger box itself, GIoU is IoU
check(
    giou,
    torch.tensor([V.first]),
    torch.tensor([V.first]),
    gives=torch.tensor([[1.0]]),
)
### BEGIN HIDDEN TESTS
check(giou, V.outer, V.inner, gives=V.inner_iou)
### END HIDDEN TESTS

# %% test="giou-apart"
# 1 mark: boxes that do not overlap
check(
    giou,
    torch.tensor([V.ex_a]),
    torch.tensor([V.ex_far]),
    gives=torch.tensor([[V.ex_giou]]),
)
### BEGIN HIDDEN TESTS
check(giou, V.apart_a, V.apart_b, gives=V.apart_giou)
check(giou, V.apart_a, V.far_b, gives=V.far_giou)
### END HIDDEN TESTS

# %% test="giou-pairs"
# 1 mark: every pair (hidden)
### BEGIN HIDDEN TESTS
check(giou, V.c, V.d, gives=V.cd_giou, hints={"This is the IoU.": V.cd_iou})
### END HIDDEN TESTS


# %% test="giou-gradient"
# 1 mark: the gradient moves a far box nearer (hidden)
### BEGIN HIDDEN TESTS
def pull(a, b):
    b = b.clone().requires_grad_()
    giou(a, b).sum().backward()
    return bool((b.grad[0, :2] < 0).any() and torch.isfinite(b.grad).all())


check(lambda a, b: pull(a, b), V.apart_a, V.apart_b, of=giou, gives=True)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Box deltas
#
# A stage of Sparse R-CNN does not say where a box is. It says how the box it was given shall move,
# in units of that box: four numbers `dx, dy, dw, dh`. With the box's centre `cx, cy` and its sides
# `w, h` the new one has
#
# $$c_x' = c_x + 0.5\,dx\,w \qquad c_y' = c_y + 0.5\,dy\,h \qquad w' = w\,e^{dw} \qquad h' =
# h\,e^{dh}$$
#
# The factor 0.5 makes a step of the centre and a step of the size about equally large for the
# network. So that one bad number cannot blow up a box, `dw` and `dh` are first limited to
# ±4.135 (`LIMIT`), a factor of 62.5.
#
# `encode` is the way back: the deltas that move one box onto another. No limit there.
#
# <details><summary>Hint</summary>
#
# Go through `to_cxcywh`, and back with `to_xyxy`. For `encode` solve each formula for its delta.
# </details>

# %% locked="limit"
LIMIT = 4.135166556742356  # log(1000 / 16)


# %% solution="deltas"
def encode(boxes, targets):
    """The deltas [N, 4] that move boxes [N, 4] onto targets [N, 4], all xyxy."""
    ### BEGIN SOLUTION
    cx, cy, w, h = to_cxcywh(boxes).unbind(-1)
    tx, ty, tw, th = to_cxcywh(targets).unbind(-1)
    return torch.stack(
        [2 * (tx - cx) / w, 2 * (ty - cy) / h, (tw / w).log(), (th / h).log()], dim=-1
    )
    ### END SOLUTION


def decode(boxes, deltas):
    """boxes [N, 4] xyxy, moved by deltas [N, 4] -> [N, 4] xyxy."""
    ### BEGIN SOLUTION
    cx, cy, w, h = to_cxcywh(boxes).unbind(-1)
    dx, dy, dw, dh = deltas.unbind(-1)
    w_new = w * dw.clamp(-LIMIT, LIMIT).exp()
    h_new = h * dh.clamp(-LIMIT, LIMIT).exp()
    return to_xyxy(torch.stack([cx + 0.5 * dx * w, cy + 0.5 * dy * h, w_new, h_new], dim=-1))
    ### END SOLUTION


# %% test="deltas-decode"
# 1 mark: no delta, no movement; and the right movement
check(
    decode,
    torch.tensor([V.first]),
    torch.zeros(1, 4),
    gives=torch.tensor([V.first]),
)
check(
    decode,
    torch.tensor([[10.0, 10.0, 30.0, 50.0]]),
    torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
    gives=torch.tensor([[20.0, 10.0, 40.0, 50.0]]),
    hints={"Where is the factor 0.5?": torch.tensor([[30.0, 10.0, 50.0, 50.0]])},
)
### BEGIN HIDDEN TESTS
check(
    decode,
    V.from_boxes,
    V.steps,
    gives=V.moved,
    hints={"Where is the factor 0.5?": V.moved_unscaled},
)
### END HIDDEN TESTS

# %% test="deltas-encode"
# 1 mark: encode
check(
    encode,
    torch.tensor([V.first]),
    torch.tensor([V.first]),
    gives=torch.zeros(1, 4),
)
### BEGIN HIDDEN TESTS
check(
    encode,
    V.from_boxes,
    V.to_boxes,
    gives=V.deltas,
    hints={"Where is the factor 0.5?": V.deltas_unscaled},
)
check(encode, V.near, V.far, gives=V.far_deltas)
### END HIDDEN TESTS


# %% test="deltas-limit"
# 1 mark: huge dw and dh are limited, dx and dy are not (hidden)
### BEGIN HIDDEN TESTS
def sides(boxes, deltas):
    moved = decode(boxes, deltas)
    return moved[:, 2:] - moved[:, :2]


def centres(boxes, deltas):
    return decode(boxes, deltas).view(-1, 2, 2).mean(1)


def steps(boxes, deltas):
    before, once, thrice = (centres(boxes, times * deltas) for times in (0, 1, 3))
    return (thrice - before) / (once - before)


check(
    lambda b, d: sides(b, d),
    V.from_boxes[:1],
    V.huge,
    of=decode,
    gives=V.huge_moved[:, 2:] - V.huge_moved[:, :2],
)
check(
    lambda b, d: steps(b, d),
    V.from_boxes[:1],
    V.step,
    of=decode,
    gives=torch.tensor([[3.0, 3.0]]),
    hints={
        "Only dw and dh have a limit: three times dx and dy, three times as far.": (
            4.135166556742356 / V.step[:, :2].abs()
        )
    },
)
### END HIDDEN TESTS


# %% test="deltas-gradient"
# 1 mark: the deltas get a gradient from decode: it is how a stage learns (hidden)
### BEGIN HIDDEN TESTS
def slope(boxes):
    deltas = torch.zeros(len(boxes), 4, requires_grad=True)
    decode(boxes, deltas)[:, 2:].sum().backward()  # the right lower corner
    return deltas.grad is not None and bool((deltas.grad > 0).all())


check(lambda b: slope(b), V.from_boxes, of=decode, gives=True)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. Think before you compute
#
# Give each answer as a number, exact to three decimals. A fraction such as `2 / 7` is fine.
#
# 1. A box is moved to the right by 1/{V.k} of its own width. What is the IoU of the box before and
#    after?
# 2. A box is made {V.grow} times as wide and {V.grow} times as high, around its centre. What is the
#    IoU of the box before and after?

# %% solution="think"
# Replace the line below by two lines: iou_shifted = ... and iou_grown = ...
### BEGIN SOLUTION
iou_shifted = V.shift_iou
iou_grown = V.grow_iou
### END SOLUTION

# %% test="think-shifted"
# 1 mark: the box that was moved
check.that(0 <= iou_shifted <= 1, "An IoU is a number from 0 to 1.")
### BEGIN HIDDEN TESTS
check.that(abs(iou_shifted - V.shift_iou) < 2e-3, "iou_shifted is another number.")
### END HIDDEN TESTS

# %% test="think-grown"
# 1 mark: the box that grew
check.that(0 <= iou_grown <= 1, "An IoU is a number from 0 to 1.")
### BEGIN HIDDEN TESTS
check.that(abs(iou_grown - V.grow_iou) < 2e-3, "iou_grown is another number.")
### END HIDDEN TESTS

# %% [markdown]
# ## Hand in
#
# 1. *Kernel, Restart kernel and run all cells*; save.
# 2. Run the cell below: it runs the saved file from top to bottom in a fresh kernel, as it will be
#    graded, and lists your tests: about ten seconds. What is hidden, parts of tests and whole
#    ones, counts only when your work is graded.
# 3. Hand in this file, `boxes.ipynb`, where your instructor told you to.

# %% locked="hand-in"
from sparse_rcnn_lab.course.classroom.validate import before_handing_in

before_handing_in("boxes.ipynb")
