# %% [markdown]
# # Assignment 3: a stage from its parts
#
# A stage takes boxes and features of all proposals, looks at the image under each box, and returns
# better ones. You build it from five parts, put it into the real model, and watch it learn.
#
# **Time:** 90 to 120 minutes, two of them training. **Marks:** 26. **You need:** Python, this
# package, JupyterLab; a CPU.
#
# | task | marks |
# | --- | --- |
# | 1. which level of the pyramid | 3 |
# | 2. RoI features | 6 |
# | 3. self-attention | 4 |
# | 4. dynamic interaction | 4 |
# | 5. the stage, and a chain of stages | 5 |
# | 6. the real model learns | 2 |
# | 7. think before you compute | 2 |
#
# **How it works**
#
# - Write where it says `Your code here`, and remove the line `raise NotImplementedError` below it.
# - Below each task are test cells; one is one mark. They are locked, and hold more tests when your
#   work is graded than you see now.
# - A mistake in one task costs nothing in the next: while one function is tested, correct versions
#   stand in for the others.
# - What the tasks ask for you write yourself; the package's own versions refuse to be called here.
#
# **Letters:** N proposals, D features of each, P side of the RoI grid, d inner width of the dynamic
# interaction, C classes. Boxes are `xyxy` in pixels of the image.

# %% tags=["build"]
import torch

from sparse_rcnn_lab.course.classroom import practice
from sparse_rcnn_lab.course.classroom import reference_solutions as ref
from sparse_rcnn_lab.course.classroom.checks import stage as check
from sparse_rcnn_lab.course.classroom.vary import V

s = [V.whole(20, 50), V.whole(60, 100), V.whole(120, 200), V.whole(230, 400)]
V.squares = torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side] for side in s])
V.wide = torch.tensor([[0.0, 0.0, 56.0 * 4, 28.0], [0.0, 0.0, 28.0, 56.0 * 4]])
V.extreme = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 3000.0, 3000.0]])
V.side = V.whole(80, 100)

V.grid_seed = V.whole(1, 500)
grid = practice.waves(3, 5, 7, seed=V.grid_seed)
V.bx = torch.tensor([V.whole(0, 59) / 10 for _ in range(4)])
V.by = torch.tensor([V.whole(0, 39) / 10 for _ in range(4)])
V.bilinear = ref.bilinear(grid, V.bx, V.by)
V.bilinear_swapped = ref.bilinear(grid, V.by, V.bx.clamp(max=4))
V.bilinear_nearest = grid[:, V.by.round().long(), V.bx.round().long()].T
V.outside = ref.bilinear(grid, torch.tensor([0.0, 6.0]), torch.tensor([2.0, 4.0]))


def roi(features, box, stride, side, half=0.5):
    x1, y1, x2, y2 = box.tolist()
    steps = (torch.arange(side) + 0.5) / side
    xs, ys = (x1 + steps * (x2 - x1)) / stride - half, (y1 + steps * (y2 - y1)) / stride - half
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return ref.bilinear(features, x.flatten().clamp(0, 6), y.flatten().clamp(0, 4))


x1, y1 = V.whole(6, 9), V.whole(4, 7)
V.roi_box = torch.tensor([x1, y1, x1 + V.whole(10, 12), y1 + V.whole(6, 8)]).float()
V.roi = roi(grid, V.roi_box, 4, 3)
V.roi_shifted = roi(grid, V.roi_box, 4, 3, 0.0)
V.roi_columns = V.roi.view(3, 3, -1).transpose(0, 1).reshape(9, -1)
# Beyond the map by more than a pixel, right and below; left and above.
V.roi_right = torch.tensor([V.whole(12, 18), V.whole(8, 12), V.whole(42, 50), V.whole(34, 40)])
V.roi_left = torch.tensor([-V.whole(14, 20), -V.whole(14, 20), V.whole(12, 18), V.whole(12, 16)])
V.roi_beyond_right, V.roi_beyond_left = roi(grid, V.roi_right, 4, 3), roi(grid, V.roi_left, 4, 3)

V.seed_att = V.whole(1, 500)
q, k, v = (practice.waves(5, 8, seed=V.seed_att + i) * 2 for i in range(3))
V.mixed, V.weights = ref.attention(q, k, v, 2)
V.mixed_one = ref.attention(q, k, v, 1)[0]


def h(t):
    return t.view(5, 2, 4).transpose(0, 1)


V.mixed_unscaled = (
    (h(q) @ h(k).transpose(1, 2)).softmax(-1).matmul(h(v)).transpose(0, 1).reshape(5, 8)
)

V.seed_stage, V.train_seed = V.whole(1, 500), V.whole(1, 500)
stage = practice.small_stage(V.seed_stage)
parts = practice.parts_of(stage)
feat, pooled = practice.waves(5, 8, seed=3), practice.waves(5, 4, 8, seed=4)
with torch.no_grad():
    V.interact = ref.interact(feat, pooled, parts.interaction)
    mean = parts.interaction.generate(feat).mean(0, keepdim=True).expand(5, -1)
    filtered = stage.interaction.filter(mean[None], pooled[None])
    V.interact_mean = stage.interaction.condense(filtered)[0]
    V.boxes_in = V.boxes(5)
    stage.pool = lambda *a: pooled[None]
    out = stage(None, V.boxes_in[None], feat[None])
    V.stage_boxes, V.stage_logits, V.stage_features = out.boxes[0], out.logits[0], out.features[0]

V.q_stride, V.q_image = V.one_of([4, 8, 16, 32]), V.whole(40, 240)
V.q_place = V.q_image / V.q_stride - 0.5
V.q_upper, V.q_lower = [V.whole(1, 9) for _ in range(2)], [V.whole(10, 29) for _ in range(2)]
V.q_value = 0.375 * V.q_upper[0] + 0.125 * (V.q_upper[1] + 3 * V.q_lower[0] + V.q_lower[1])

# %% locked="imports"
import matplotlib.pyplot as plt
import torch

from sparse_rcnn_lab.core.boxes import decode_deltas  # boxes [N, 4], deltas [N, 4] -> boxes [N, 4]
from sparse_rcnn_lab.course.classroom import practice

# %% [markdown]
# ## 1. Which level of the pyramid
#
# The pyramid has four levels, p2 to p5. p2 is fine, one pixel for 4 pixels of the image; each
# further level is twice as coarse. A large box is read from a coarse level, a small one from a fine
# one. With the area $wh$ of a box the level is
#
# $$\left\lfloor \log_2 \frac{\sqrt{wh}}{56} \right\rfloor \qquad \text{0 for p2, ..., 3 for p5}$$
#
# and never below 0 or above 3.


# %% solution="level"
def level_of(boxes):
    """boxes [N, 4] xyxy -> [N] int64: 0 for p2 to 3 for p5."""
    ### BEGIN SOLUTION
    sides = boxes[:, 2:] - boxes[:, :2]
    scale = (sides[:, 0] * sides[:, 1]).sqrt()
    return (scale / 56 + 1e-6).log2().floor().clamp(0, 3).long()
    ### END SOLUTION


# %% test="level-squares"
# 1 mark: squares of growing size
check(level_of, V.squares, gives=torch.tensor([0, 0, 1, 2]))
### BEGIN HIDDEN TESTS
check(
    level_of,
    torch.tensor([[0.0, 0.0, 110.0, 110.0], [0.0, 0.0, 113.0, 113.0]]),
    gives=torch.tensor([0, 1]),
)
### END HIDDEN TESTS

# %% test="level-wide"
# 1 mark: what counts is the area, not one side (hidden)
### BEGIN HIDDEN TESTS
check(level_of, V.wide, gives=torch.tensor([0, 0]))
check(
    level_of,
    torch.tensor([[0.0, 0.0, 300.0, 60.0]]),
    gives=torch.tensor([1]),
)
### END HIDDEN TESTS

# %% test="level-limits"
# 1 mark: tiny and huge boxes; whole numbers, as a level is a place in a list
check(level_of, V.extreme, gives=torch.tensor([0, 3]))
check(
    lambda b: level_of(b).is_floating_point(),
    V.extreme,
    of=level_of,
    gives=False,
    hints={"0.0 is not int64: .long() makes it one.": True},
)

# %% [markdown]
# ## 2. RoI features
#
# A level is a map `[D, H, W]`: D features at each of its pixels. `bilinear` reads it *between* the
# pixels. The pixel in column 2 and row 1 has its centre at `x = 2, y = 1`; a place between four
# centres gets their mean, weighted by nearness:
#
# $$f(x, y) = (1 - u)(1 - v)\, f_{00} + u (1 - v)\, f_{10} + (1 - u)\, v\, f_{01} + u v\, f_{11}$$
#
# where `u` and `v` are how far right and below of the upper left centre the place is. Places lie
# inside the map: `0 <= x <= W - 1`, `0 <= y <= H - 1`.
#
# `roi_feature` lays a grid of P x P cells over a box and reads the map in the middle of each cell.
# The box is in pixels of the image, a map pixel is `stride` image pixels wide. In the image, the
# map's first pixel reaches from 0 to `stride`, so its centre is at `stride / 2`. Therefore
#
# $$x_\text{map} = \frac{x_\text{image}}{\text{stride}} - 0.5$$
#
# and the same for y. Limit places to the map. The result has one row a cell, row by row: first the
# upper row of cells, from left to right.
#
# <details><summary>Hint 1</summary>
#
# `features[:, rows, columns]` picks K places when `rows` and `columns` are int64 tensors `[K]`; it
# gives `[D, K]`. At the right and lower border the neighbour would lie outside: limit its index.
# </details>
# <details><summary>Hint 2</summary>
#
# The cell middles along one side are `(torch.arange(side) + 0.5) / side`, as a share of the box.
# `torch.meshgrid(ys, xs, indexing="ij")` makes all pairs in the right order.
# </details>


# %% solution="roi"
def bilinear(features, x, y):
    """features [D, H, W], x and y [K] in map pixels -> [K, D]."""
    ### BEGIN SOLUTION
    height, width = features.shape[1:]
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    u, v = x - left, y - top
    found = (
        features[:, top, left] * (1 - u) * (1 - v)
        + features[:, top, right] * u * (1 - v)
        + features[:, bottom, left] * (1 - u) * v
        + features[:, bottom, right] * u * v
    )
    return found.T
    ### END SOLUTION


def roi_feature(features, box, stride, side):
    """features [D, H, W], one box [4] xyxy in image pixels -> [side * side, D]."""
    ### BEGIN SOLUTION
    height, width = features.shape[1:]
    x1, y1, x2, y2 = box
    middles = (torch.arange(side) + 0.5) / side
    xs = ((x1 + middles * (x2 - x1)) / stride - 0.5).clamp(0, width - 1)
    ys = ((y1 + middles * (y2 - y1)) / stride - 0.5).clamp(0, height - 1)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return bilinear(features, x.flatten(), y.flatten())
    ### END SOLUTION


# %% test="bilinear-ramp"
# 1 mark: on a map whose value is its column, bilinear reads x
check(
    bilinear,
    torch.arange(7.0).expand(1, 5, 7),
    torch.tensor([0.0, 2.5, 4.25]),
    torch.tensor([1.0, 0.5, 3.0]),
    gives=torch.tensor([[0.0], [2.5], [4.25]]),
)

# %% test="bilinear-values"
# 1 mark: the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    bilinear,
    practice.waves(3, 5, 7, seed=V.grid_seed),
    V.bx,
    V.by,
    gives=V.bilinear,
    hints={
        "x is the column, y the row.": V.bilinear_swapped,
        "This is the nearest pixel, without its neighbours.": V.bilinear_nearest,
    },
)
### END HIDDEN TESTS

# %% test="bilinear-border"
# 1 mark: on the border (hidden)
### BEGIN HIDDEN TESTS
check(
    bilinear,
    practice.waves(3, 5, 7, seed=V.grid_seed),
    torch.tensor([0.0, 6.0]),
    torch.tensor([2.0, 4.0]),
    gives=V.outside,
)
### END HIDDEN TESTS

# %% test="roi-shape"
# 1 mark: one row a cell
check(
    lambda f, b: list(roi_feature(f, b, 4, 3).shape),
    torch.zeros(6, 5, 7),
    torch.tensor([4.0, 4.0, 20.0, 16.0]),
    of=roi_feature,
    gives=[9, 6],
)

# %% test="roi-ramp"
# 1 mark: on a map whose value is its column, the cells of a box from 4 to 20 (stride 4)
check(
    lambda f, b: roi_feature(f, b, 4, 2)[:2, 0],
    torch.arange(7.0).expand(1, 5, 7),
    torch.tensor([4.0, 4.0, 20.0, 12.0]),
    of=roi_feature,
    gives=torch.tensor([1.5, 3.5]),
    hints={"Where is the half pixel?": torch.tensor([2.0, 4.0])},
)

# %% test="roi-values"
# 1 mark: the right numbers, in the right order; places beyond the map are limited to it; the inputs
# are left as they were (hidden)
### BEGIN HIDDEN TESTS
check(
    roi_feature,
    practice.waves(3, 5, 7, seed=V.grid_seed),
    V.roi_box,
    4,
    3,
    gives=V.roi,
    unchanged=True,
    hints={
        "Where is the half pixel?": V.roi_shifted,
        "Row by row, not column by column.": V.roi_columns,
    },
)
check(
    roi_feature,
    practice.waves(3, 5, 7, seed=V.grid_seed),
    V.roi_right.float(),
    4,
    3,
    gives=V.roi_beyond_right,
)
check(
    roi_feature,
    practice.waves(3, 5, 7, seed=V.grid_seed),
    V.roi_left.float(),
    4,
    3,
    gives=V.roi_beyond_left,
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Self-attention
#
# Proposals that sit on the same object must agree who takes it. Each asks the others: its query `q`
# is compared with all keys `k`, and it takes the mean of all values `v`, weighted by how well they
# fit. With several heads, D is cut into `heads` equal parts, and each head works on its own part
# alone. In one head, with $d_h = D / \text{heads}$:
#
# $$A = \operatorname{softmax}\left(\frac{q k^\top}{\sqrt{d_h}}\right) \qquad \text{mixed} = A v$$
#
# Each row of $A$ belongs to one that asks, and sums to 1. The heads' results are put side by side
# again.
#
# <details><summary>Hint</summary>
#
# `x.view(n, heads, d // heads).transpose(0, 1)` is `[heads, N, d_h]`; matrix products then work
# head by head. `transpose` back before `reshape`.
# </details>


# %% solution="attention"
def attention(q, k, v, heads):
    """q, k, v [N, D] -> (mixed [N, D], weights [heads, N, N])."""
    ### BEGIN SOLUTION
    n, d = q.shape
    q, k, v = (x.view(n, heads, d // heads).transpose(0, 1) for x in (q, k, v))
    weights = (q @ k.transpose(1, 2) / (d // heads) ** 0.5).softmax(dim=-1)
    return (weights @ v).transpose(0, 1).reshape(n, d), weights
    ### END SOLUTION


# %% test="attention-shapes"
# 1 mark: shapes
check(
    lambda q: [list(part.shape) for part in attention(q, q, q, 2)],
    torch.ones(5, 8),
    of=attention,
    gives=[[5, 8], [2, 5, 5]],
)

# %% test="attention-rows"
# 1 mark: each row of the weights sums to 1 (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda q, k: attention(q, k, q, 2)[1].sum(-1),
    practice.waves(5, 8, seed=V.seed_att) * 2,
    practice.waves(5, 8, seed=V.seed_att + 1) * 2,
    of=attention,
    gives=torch.ones(2, 5),
)
### END HIDDEN TESTS

# %% test="attention-one-head"
# 1 mark: one head gives the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda q, k, v: attention(q, k, v, 1)[0],
    *(practice.waves(5, 8, seed=V.seed_att + i) * 2 for i in range(3)),
    of=attention,
    gives=V.mixed_one,
)
### END HIDDEN TESTS

# %% test="attention-heads"
# 1 mark: two heads give the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda q, k, v: attention(q, k, v, 2)[0],
    *(practice.waves(5, 8, seed=V.seed_att + i) * 2 for i in range(3)),
    of=attention,
    gives=V.mixed,
    hints={
        "Each head works on its own part of q, k and v.": V.mixed_one,
        "What is the product divided by?": V.mixed_unscaled,
    },
)
check(
    lambda q, k: attention(q, k, q, 2)[1],
    *(practice.waves(5, 8, seed=V.seed_att + i) * 2 for i in range(2)),
    of=attention,
    gives=V.weights,
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Dynamic interaction
#
# The heart of Sparse R-CNN. Each proposal's feature *generates* two small layers, and these filter
# the RoI of that proposal alone. `parts` holds the learned layers (`parts.dim` is D, `parts.inner`
# d):
#
# 1. `parts.generate(features)` gives `2 * D * d` numbers a proposal: first a matrix `[D, d]`, then
#    a matrix `[d, D]`.
# 2. The RoI `[P * P, D]` times the first matrix; then `parts.norm_in`; then ReLU.
# 3. That times the second matrix; then `parts.norm_out`; then ReLU.
# 4. All cells side by side, `[P * P * D]`; then `parts.project`; then `parts.norm`; then ReLU.
#
# <details><summary>Hint</summary>
#
# `a @ b` of `[N, P * P, D]` and `[N, D, d]` multiplies proposal by proposal: each with its own
# matrix.
# </details>


# %% solution="interact"
def interact(features, roi, parts):
    """features [N, D], roi [N, P * P, D] -> [N, D]."""
    ### BEGIN SOLUTION
    first, second = parts.generate(features).split(parts.dim * parts.inner, dim=-1)
    x = roi @ first.view(-1, parts.dim, parts.inner)
    x = parts.norm_in(x).relu()
    x = x @ second.view(-1, parts.inner, parts.dim)
    x = parts.norm_out(x).relu()
    return parts.norm(parts.project(x.flatten(1))).relu()
    ### END SOLUTION


# %% test="interact-shape"
# 1 mark: one vector a proposal
check(
    lambda f, r: list(interact(f, r, practice.small_parts(1).interaction).shape),
    torch.ones(5, 8),
    torch.ones(5, 4, 8),
    of=interact,
    gives=[5, 8],
)

# %% test="interact-relu"
# 1 mark: no negative number leaves it, and not all are zero
check(
    lambda f, r: (lambda x: bool((x >= 0).all() and (x > 0).any()))(
        interact(f, r, practice.small_parts(1).interaction)
    ),
    practice.waves(5, 8, seed=3),
    practice.waves(5, 4, 8, seed=4),
    of=interact,
    gives=True,
)

# %% test="interact-own"
# 1 mark: each proposal has its own filters: what one sees does not depend on the others (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda f, r: torch.allclose(
        interact(f, r, practice.small_parts(V.seed_stage).interaction)[2:],
        interact(f[2:], r[2:], practice.small_parts(V.seed_stage).interaction),
        atol=1e-5,
    ),
    practice.waves(5, 8, seed=3),
    practice.waves(5, 4, 8, seed=4),
    of=interact,
    gives=True,
)
### END HIDDEN TESTS

# %% test="interact-values"
# 1 mark: the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda f, r: interact(f, r, practice.small_parts(V.seed_stage).interaction),
    practice.waves(5, 8, seed=3),
    practice.waves(5, 4, 8, seed=4),
    of=interact,
    gives=V.interact,
    hints={"All proposals got the same filters.": V.interact_mean},
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The stage, and a chain of stages
#
# Three times the same pattern: *do something with x, add it to x, normalise the sum.*
#
# 1. `q, k, v` are the three thirds of `parts.qkv(x)`; attention with `parts.heads`; then
#    `parts.out`. Add. `parts.norm_attention`.
# 2. `interact` with the RoI and `parts.interaction`. Add. `parts.norm_interaction`.
# 3. `parts.ffn_in`, ReLU, `parts.ffn_out`. Add. `parts.norm_ffn`.
#
# Then `parts.classify(x)` gives the logits, and `parts.regress(x)` the deltas that `decode_deltas`
# moves the boxes by.
#
# `chain` runs several stages, one after the other: the boxes and features of one go into the next.
# Boxes are *detached* on their way (a stage shall not be taught through where the next one looked),
# features are not. Each `stage(boxes, features)` returns `boxes, logits, features`.
#
# <details><summary>Hint</summary>
#
# What is returned for the loss still has its gradient: detach what goes into the next stage, not
# what you append to the list.
# </details>


# %% solution="stage"
def run_stage(parts, boxes, features, roi):
    """boxes [N, 4], features [N, D], roi [N, P * P, D] -> (boxes, logits [N, C], features)."""
    ### BEGIN SOLUTION
    x = features
    q, k, v = parts.qkv(x).chunk(3, dim=-1)
    x = parts.norm_attention(x + parts.out(attention(q, k, v, parts.heads)[0]))
    x = parts.norm_interaction(x + interact(x, roi, parts.interaction))
    x = parts.norm_ffn(x + parts.ffn_out(parts.ffn_in(x).relu()))
    return decode_deltas(boxes, parts.regress(x)), parts.classify(x), x
    ### END SOLUTION


def chain(stages, boxes, features):
    """Runs the stages in turn -> a list of (boxes, logits, features), one for each stage."""
    ### BEGIN SOLUTION
    outputs = []
    for stage in stages:
        boxes, logits, features = stage(boxes, features)
        outputs.append((boxes, logits, features))
        boxes = boxes.detach()
    return outputs
    ### END SOLUTION


# %% test="stage-shapes"
# 1 mark: shapes
check(
    lambda b, f, r: [list(t.shape) for t in run_stage(practice.small_parts(1), b, f, r)],
    torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(5, 1),
    torch.ones(5, 8),
    torch.ones(5, 4, 8),
    of=run_stage,
    gives=[[5, 4], [5, 4], [5, 8]],
)

# %% test="stage-features"
# 1 mark: the right features (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda b, f, r: run_stage(practice.small_parts(V.seed_stage), b, f, r)[2],
    V.boxes_in,
    practice.waves(5, 8, seed=3),
    practice.waves(5, 4, 8, seed=4),
    of=run_stage,
    gives=V.stage_features,
)
### END HIDDEN TESTS


# %% test="stage-heads"
# 1 mark: boxes and logits are read from the features that are returned, and carry a gradient
# (hidden)
### BEGIN HIDDEN TESTS
def heads(b, f, r):
    parts = practice.small_parts(V.seed_stage)
    boxes, logits, x = run_stage(parts, b, f, r)
    return bool(
        boxes.requires_grad
        and logits.requires_grad
        and torch.allclose(logits, parts.classify(x), atol=1e-4)
        and torch.allclose(boxes, decode_deltas(b, parts.regress(x)), atol=1e-2)
    )


check(
    lambda b, f, r: heads(b, f, r),
    V.boxes_in,
    practice.waves(5, 8, seed=3),
    practice.waves(5, 4, 8, seed=4),
    of=run_stage,
    gives=True,
)
### END HIDDEN TESTS


# %% test="chain-order"
# 1 mark: each stage gets what the one before made; all are returned
def toy(boxes, features):
    return boxes + 1, features.sum(-1), features * 2


check(
    lambda b, f: [(float(o[0][0, 0]), float(o[2][0, 0])) for o in chain([toy, toy, toy], b, f)],
    torch.zeros(2, 4),
    torch.ones(2, 3),
    of=chain,
    gives=[(1.0, 2.0), (2.0, 4.0), (3.0, 8.0)],
)


# %% test="chain-gradient"
# 1 mark: the gradient goes through the features, not through the boxes; the last boxes have one
# (hidden)
### BEGIN HIDDEN TESTS
def flows():
    first, scale = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    own = torch.ones(1, requires_grad=True)

    def one(boxes, features):
        return boxes * first, features, features * scale

    def two(boxes, features):
        return boxes * own, features, features

    outputs = chain([one, two], torch.ones(1, 4), torch.ones(1, 3))
    (outputs[1][0].sum() + outputs[1][2].sum()).backward()
    return [first.grad is None, scale.grad is not None, own.grad is not None]


check(lambda: flows(), of=chain, gives=[True, True, True])
### END HIDDEN TESTS

# %% [markdown]
# ## 6. The real model learns
#
# `practice.own_model(run_stage)` is a small Sparse R-CNN with backbone, pyramid, 20 learned
# proposals and three stages, every one of them run by your function. `practice.train` trains it on
# drawn shapes and returns the loss of every step. Two minutes do not make a detector; they show
# that it learns.
#
# Run the cell, and look at the curve. Does the loss fall all the time? Where does it fall fastest?

# %% locked="train"
model = practice.own_model(run_stage, seed=V.train_seed)
losses = practice.train(model, minutes=2)
plt.plot(losses)
plt.xlabel("step")
plt.ylabel("loss")
plt.show()

# %% test="model-runs"
# 1 mark: with your parts as they are, the loss is a number at every step
check.that(len(losses) >= 5, "The training has not run.")
check.that(all(0 < loss < 1e4 for loss in losses), "The loss has left all bounds.")

# %% test="model-learns"
# 1 mark: the loss falls: at the end it is below that of the beginning
check.that(
    sum(losses[-3:]) < 0.95 * sum(losses[:3]),
    "The loss does not fall. Do the tests above pass?",
)

# %% [markdown]
# ## 7. Think before you compute
#
# Give each answer as a number, exact to three decimals.
#
# 1. Which x of a map with stride {V.q_stride} lies under x = {V.q_image} of the image?
# 2. A map has the values {V.q_upper} in its first row, columns 0 and 1, and {V.q_lower} in its
#    second. What does `bilinear` read at x = 0.25, y = 0.5?

# %% solution="think"
# Replace the line below by two lines: place = ... and value = ...
### BEGIN SOLUTION
place = V.q_place
value = V.q_value
### END SOLUTION

# %% test="think-place"
# 1 mark
check.that(place > 0, "The place lies on the map: it is above 0.")
### BEGIN HIDDEN TESTS
check.that(abs(place - V.q_place) < 2e-3, "place is another number.")
### END HIDDEN TESTS

# %% test="think-value"
# 1 mark
check.that(0 < value < 30, "A mean lies between the smallest and the largest value.")
### BEGIN HIDDEN TESTS
check.that(abs(value - V.q_value) < 2e-3, "value is another number.")
### END HIDDEN TESTS

# %% [markdown]
# ## Hand in
#
# 1. *Kernel, Restart kernel and run all cells*: it goes on below a test that fails; save.
# 2. Run the cell below: it runs the saved file from top to bottom in a fresh kernel, with a
#    training of a few seconds, and lists your tests. What is hidden, parts of tests and
#    whole ones, counts only when your work is graded.
# 3. Hand in this file, `stage.ipynb`, where your instructor told you to.

# %% locked="hand-in"
from sparse_rcnn_lab.course.classroom.validate import before_handing_in

before_handing_in("stage.ipynb")
