# %% [markdown]
# # Assignment 2: matching and the set loss
#
# A hundred proposals, three objects: which proposal learns from which object? Sparse R-CNN answers
# with a *matching*: every object gets exactly one proposal, chosen so that the sum of all costs is
# as small as it can be. All other proposals learn to say "nothing here". That is why it needs no
# anchors, and no non-maximum suppression in the end.
#
# **Time:** 75 to 120 minutes. **Marks:** 24. **You need:** Python, this package, JupyterLab; a CPU.
#
# | task | marks |
# | --- | --- |
# | 1. what a wrong class costs | 4 |
# | 2. what a wrong box costs | 5 |
# | 3. the matching | 5 |
# | 4. the losses | 4 |
# | 5. the set loss | 4 |
# | 6. think before you compute | 2 |
#
# **How it works**
#
# - Write where it says `Your code here`, and remove the line `raise NotImplementedError` below it.
# - Below each task are test cells; one is one mark. They are locked, and hold more tests when your
#   work is graded than you see now.
# - A mistake in one task costs nothing in the next: while one function is tested, correct versions
#   stand in for the others.
# - `giou` of assignment 1 is given. What the tasks ask for you write yourself; the package's own
#   versions refuse to be called here. SciPy is allowed.
#
# **Letters:** N proposals, M objects, C classes. `logits` `[N, C]` are scores before the sigmoid,
# boxes are `xyxy` in pixels, `size` is `(height, width)` of the image in pixels.

# %% tags=["build"]
import torch

from sparse_rcnn_lab.core import boxes as ops
from sparse_rcnn_lab.course.classroom import reference_solutions as ref
from sparse_rcnn_lab.course.classroom.checks import matching as check
from sparse_rcnn_lab.course.classroom.vary import V

V.n, V.m, V.c = 6, 3, 4
V.height, V.width = 10 * V.whole(8, 10), 10 * V.whole(14, 18)
V.size = (V.height, V.width)
V.logits = V.normal(V.n, V.c, scale=2.0)
V.classes = V.labels(V.m, V.c)
while V.classes[0] == 0:  # else the first columns might look right
    V.classes = V.labels(V.m, V.c)
V.boxes_p, V.truth = V.boxes(V.n, 80), V.boxes(V.m, 80)
V.one_logits = V.normal(2, 2, scale=1.5)
V.one_cost = ref.class_cost(V.one_logits, torch.tensor([1]))
V.class_cost = ref.class_cost(V.logits, V.classes)
p = V.logits.softmax(-1)
V.class_softmax = (0.25 * (1 - p) ** 2 * -(p + 1e-12).log() - 0.75 * p**2 * -(1 - p + 1e-12).log())[
    :, V.classes
]
q = V.logits.sigmoid()
V.class_alpha = (0.75 * (1 - q) ** 2 * -q.log() - 0.25 * q**2 * -(1 - q).log())[:, V.classes]
V.big_logits = torch.tensor([[200.0, -200.0]])
V.box_cost = ref.box_cost(V.boxes_p, V.truth, V.size)
V.box_pixels = torch.cdist(V.boxes_p, V.truth, p=1)
V.box_swapped = ref.box_cost(V.boxes_p, V.truth, (V.width, V.height))
whwh = torch.tensor([V.width, V.height, V.width, V.height])
V.box_centre = torch.cdist(
    ops.xyxy_to_cxcywh(V.boxes_p / whwh), ops.xyxy_to_cxcywh(V.truth / whwh), p=1
)
V.total = ref.total_cost(V.logits, V.boxes_p, V.classes, V.truth, V.size)
V.total_sign = V.total + 4 * ops.giou(V.boxes_p, V.truth)

# Costs where the greedy choice is wrong: the best pair of all leaves the rest badly off.
gap, low = V.whole(5, 9), V.whole(1, 3)
V.trap = torch.tensor(
    [[float(low), low + 1.0], [low + 1.0, low + 2.0 + gap], [low + 30.0, low + 40.0]]
)
V.trap_pairs = [[0, 1], [1, 0]]
V.cost = V.normal(5, 3, scale=3.0)
rows, columns = ref.match(V.cost)
V.cost_pairs = sorted([int(r), int(c)] for r, c in zip(rows, columns, strict=True))

# More objects than proposals: each proposal has an object that is by far its cheapest, and it is
# not the object of its own number. Which one is cheapest is not the question here.
V.few_pairs = V.one_of([[[0, 1], [1, 2]], [[0, 2], [1, 3]], [[0, 3], [1, 2]], [[0, 2], [1, 0]]])
V.few = V.normal(2, 4).abs() + 3
for proposal, thing in V.few_pairs:
    V.few[proposal, thing] -= 3

V.flat_logits = V.normal(3, 2, scale=2.0)
V.hot = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
V.focal = ref.focal_loss(V.flat_logits, V.hot)
V.focal_plain = torch.nn.functional.binary_cross_entropy_with_logits(
    V.flat_logits, V.hot, reduction="none"
)
p = V.flat_logits.sigmoid()
missed = (1 - p) * V.hot + p * (1 - V.hot)
V.focal_alpha = V.focal_plain * missed**2 * (0.75 * V.hot + 0.25 * (1 - V.hot))
V.pairs_p, V.pairs_t = V.boxes(3, 80), V.boxes(3, 80)
V.pair_losses = tuple(v.item() for v in ref.box_losses(V.pairs_p, V.pairs_t, V.size))
V.pair_means = tuple(v / 3 for v in V.pair_losses)

V.rows, V.columns = torch.tensor([0, 3, 5]), torch.tensor([2, 0, 1])
hot = torch.zeros(V.n, V.c)
hot[V.rows, V.classes[V.columns]] = 1
focal = ref.focal_loss(V.logits, hot)
l1, giou_loss = ref.box_losses(V.boxes_p[V.rows], V.truth[V.columns], V.size)
V.set_cls, V.set_cls_n = (2 * focal.sum() / 3).item(), (2 * focal.sum() / V.n).item()
V.set_boxes = [(5 * l1 / 3).item(), (2 * giou_loss / 3).item()]
l1, giou_loss = ref.box_losses(V.boxes_p[:1], V.truth[V.columns[:1]], V.size)
V.set_few = [(5 * l1).item(), (2 * giou_loss).item()]
V.set_few_n = [value / 3 for value in V.set_few]
V.none_loss = {
    "cls": 2 * ref.focal_loss(V.logits, torch.zeros(V.n, V.c)).sum().item(),
    "l1": 0.0,
    "giou": 0.0,
}

# What two proposals cost for two objects, and what the cheapest pair first would come to.
low, gap = V.whole(2, 19), V.whole(2, 19)
V.q_00, V.q_01, V.q_10, V.q_11 = low, low + 1, low + 1, low + 2 + gap
V.best_sum, V.greedy_sum = V.q_01 + V.q_10, V.q_00 + V.q_11

# %% locked="imports"
import torch

from sparse_rcnn_lab.core.boxes import giou  # [N, 4] and [M, 4] xyxy -> [N, M]

# %% [markdown]
# ## 1. What a wrong class costs
#
# Each class has a score of its own: the *sigmoid* of its logit, `p`. For an object of class `c`, a
# proposal costs what the focal loss would fall by if it were the one to find it:
#
# $$\mathrm{cost} = \underbrace{0.25\,(1 - p_c)^2\,(-\log p_c)}_{\text{loss if it must find it}}
#   - \underbrace{0.75\,p_c^2\,(-\log(1 - p_c))}_{\text{loss if it must not}}$$
#
# `class_cost` gives this for every proposal and every object: `[N, M]`. It stays finite when a
# network is very sure (`p` is 0 or 1).
#
# <details><summary>Hint</summary>
#
# Compute the cost for all classes, `[N, C]`, and pick the columns of the objects in the end:
# `table[:, labels]`. Against `log(0)` add `1e-12` inside the logarithm.
# </details>


# %% solution="class-cost"
def class_cost(logits, labels):
    """logits [N, C], labels [M] -> [N, M]: what each proposal's scores cost for each object."""
    ### BEGIN SOLUTION
    p = logits.sigmoid()
    found = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log()
    missed = 0.75 * p**2 * -(1 - p + 1e-12).log()
    return (found - missed)[:, labels]
    ### END SOLUTION


# %% test="class-one"
# 1 mark: two proposals, one object of class 1
check(class_cost, V.one_logits, torch.tensor([1]), gives=V.one_cost)

# %% test="class-shape"
# 1 mark: a row for each proposal, a column for each object
check(lambda x, o: list(class_cost(x, o).shape), V.logits, V.classes, of=class_cost, gives=[6, 3])
### BEGIN HIDDEN TESTS
check(
    lambda x, o: list(class_cost(x, o).shape), V.logits, V.classes[:1], of=class_cost, gives=[6, 1]
)
### END HIDDEN TESTS

# %% test="class-values"
# 1 mark: the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    class_cost,
    V.logits,
    V.classes,
    gives=V.class_cost,
    hints={
        "A class's score is a sigmoid here: the scores need not sum to 1.": V.class_softmax,
        "0.25 belongs to the first part, 0.75 to the second.": V.class_alpha,
    },
)
### END HIDDEN TESTS

# %% test="class-sure"
# 1 mark: finite for a network that is very sure (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda x, o: bool(torch.isfinite(class_cost(x, o)).all()),
    V.big_logits,
    torch.tensor([0, 1]),
    of=class_cost,
    gives=True,
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. What a wrong box costs
#
# Two numbers tell how far a box is from an object: the L1 distance of the four `xyxy` coordinates
# (the sum of the absolute differences), and the GIoU. A distance of ten pixels is much in a small
# image and little in a large one, so the coordinates are divided by the image first: x by its
# width, y by its height. Mind that `size` is `(height, width)`.
#
# `total_cost` puts everything together. A high GIoU is good, so it enters with a minus:
#
# $$\mathrm{total} = 2 \cdot \mathrm{class} + 5 \cdot \mathrm{L1} - 2 \cdot \mathrm{GIoU}$$
#
# <details><summary>Hint</summary>
#
# `torch.cdist(a, b, p=1)` is the L1 distance of every pair. What must `a` be divided by?
# </details>


# %% solution="box-cost"
def box_cost(boxes, truth, size):
    """boxes [N, 4], truth [M, 4], size (height, width) -> [N, M], relative to the image."""
    ### BEGIN SOLUTION
    height, width = size
    scale = torch.tensor([width, height, width, height])
    return torch.cdist(boxes / scale, truth / scale, p=1)
    ### END SOLUTION


def total_cost(logits, boxes, labels, truth, size):
    """The weighted sum of all costs, [N, M]."""
    ### BEGIN SOLUTION
    return (
        2 * class_cost(logits, labels) + 5 * box_cost(boxes, truth, size) - 2 * giou(boxes, truth)
    )
    ### END SOLUTION


# %% test="box-one"
# 1 mark: 20 pixels of 200 to the right, with both x, are a distance of 0.2
check(
    box_cost,
    torch.tensor([[0.0, 0.0, 40.0, 30.0]]),
    torch.tensor([[20.0, 0.0, 60.0, 30.0]]),
    (100, 200),
    gives=torch.tensor([[0.2]]),
)

# %% test="box-values"
# 1 mark: the right numbers, and the inputs are left as they were (hidden)
### BEGIN HIDDEN TESTS
check(
    box_cost,
    V.boxes_p,
    V.truth,
    V.size,
    gives=V.box_cost,
    unchanged=True,
    hints={
        "These are pixels: divide by the image.": V.box_pixels,
        "Height and width changed places.": V.box_swapped,
        "The distance is that of the xyxy coordinates, not of cxcywh.": V.box_centre,
    },
)
### END HIDDEN TESTS

# %% test="box-none"
# 1 mark: an image without an object gives a table without columns (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda b, t: list(box_cost(b, t, V.size).shape),
    V.boxes_p,
    torch.zeros(0, 4),
    of=box_cost,
    gives=[6, 0],
)
### END HIDDEN TESTS


# %% test="total-sign"
# 1 mark: in a large image L1 is small; of two proposals the one on the object is still cheaper
def dearer(boxes, truth):
    cost = total_cost(torch.zeros(2, 2), boxes, torch.tensor([0]), truth, (1000, 1000))
    return bool(cost[1, 0] > cost[0, 0] + 2)


check(
    lambda b, t: dearer(b, t),
    torch.tensor([[10.0, 10.0, 40.0, 50.0], [60.0, 60.0, 90.0, 95.0]]),
    torch.tensor([[12.0, 10.0, 40.0, 50.0]]),
    of=total_cost,
    gives=True,
)

# %% test="total-values"
# 1 mark: the right numbers (hidden)
### BEGIN HIDDEN TESTS
check(
    total_cost,
    V.logits,
    V.boxes_p,
    V.classes,
    V.truth,
    V.size,
    gives=V.total,
    hints={"A good GIoU must make it cheaper, not dearer.": V.total_sign},
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. The matching
#
# Each object gets one proposal, no proposal serves two objects, and the sum of the chosen costs is
# the smallest possible. Taking the cheapest pair again and again does not give that: in
#
# | | object 0 | object 1 |
# | --- | --- | --- |
# | proposal 0 | 1 | 2 |
# | proposal 1 | 2 | 9 |
#
# it would take 1 and then must take 9. The best sum is 2 + 2.
#
# `match` returns two int64 tensors of equal length: the proposals and the objects of the pairs, in
# any order. With more objects than proposals, some objects go without; without objects both tensors
# are empty. The matching is a decision, not a function to learn through: it must also work when
# `cost` carries a gradient.
#
# <details><summary>Hint</summary>
#
# `scipy.optimize.linear_sum_assignment` solves exactly this. It wants a NumPy array, and
# `cost.numpy()` refuses a tensor with a gradient: what takes the gradient away?
# </details>


# %% solution="match"
def match(cost):
    """cost [N, M] -> (proposals [K], objects [K]), int64, K = min(N, M): the cheapest."""
    ### BEGIN SOLUTION
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost.detach().numpy())
    return torch.as_tensor(rows), torch.as_tensor(columns)
    ### END SOLUTION


# %% locked="pairs"
def pairs(cost):
    """What match returns as a sorted list of [proposal, object], for the tests."""
    proposals, objects = match(cost)
    return sorted([int(p), int(o)] for p, o in zip(proposals, objects, strict=True))


# %% test="match-one-each"
# 1 mark: one proposal each, clear cases
check(
    pairs,
    torch.tensor([[9.0, 1.0], [9.0, 9.0], [1.0, 9.0]]),
    of=match,
    gives=[[0, 1], [2, 0]],
)

# %% test="match-best"
# 1 mark: the smallest sum, not the smallest first (hidden)
### BEGIN HIDDEN TESTS
check(
    pairs,
    V.trap,
    of=match,
    gives=V.trap_pairs,
    hints={"The sum can be smaller. See the example.": [[0, 0], [1, 1]]},
)
check(pairs, V.cost, of=match, gives=V.cost_pairs)
### END HIDDEN TESTS

# %% test="match-few"
# 1 mark: more objects than proposals (hidden)
### BEGIN HIDDEN TESTS
check(pairs, V.few, of=match, gives=V.few_pairs)
### END HIDDEN TESTS

# %% test="match-none"
# 1 mark: no object: two empty int64 tensors (hidden)
### BEGIN HIDDEN TESTS
check(lambda c: [t.numel() for t in match(c)], torch.zeros(4, 0), of=match, gives=[0, 0])
check(
    lambda c: [str(t.dtype) for t in match(c)],
    torch.zeros(4, 0),
    of=match,
    gives=["torch.int64"] * 2,
)
### END HIDDEN TESTS

# %% test="match-gradient"
# 1 mark: a cost that carries a gradient
check(
    lambda c: pairs(c.requires_grad_()),
    torch.tensor([[9.0, 1.0], [1.0, 9.0]]),
    of=match,
    gives=[[0, 1], [1, 0]],
)

# %% [markdown]
# ## 4. The losses
#
# The **focal loss** of a score and what it should be (`t` is 1 or 0), for every element on its own:
#
# $$t = 1:\;\; 0.25\,(1 - p)^2\,(-\log p) \qquad\qquad t = 0:\;\; 0.75\,p^2\,(-\log(1 - p))$$
#
# Most scores are easy zeros. The squares make them quiet, so that the few hard ones are heard.
#
# **box_losses** compares K matched boxes with their K objects, one with one, and gives two sums
# over the pairs: the L1 distance relative to the image as in task 2, and `1 - GIoU`.
#
# A network learns from the gradient of both, so both must carry one.
#
# <details><summary>Hint</summary>
#
# `giou(predicted, truth)` compares all with all. What you need is its diagonal.
# </details>


# %% solution="losses"
def focal_loss(logits, targets):
    """logits and targets (0 or 1) of equal shape -> the loss of each element, same shape."""
    ### BEGIN SOLUTION
    p = logits.sigmoid()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = torch.where(targets > 0, 1 - p, p)
    alpha = torch.where(targets > 0, 0.25, 0.75)
    return alpha * missed**2 * loss
    ### END SOLUTION


def box_losses(predicted, truth, size):
    """predicted [K, 4], truth [K, 4] -> (sum of L1 relative to the image, sum of 1 - GIoU)."""
    ### BEGIN SOLUTION
    height, width = size
    scale = torch.tensor([width, height, width, height])
    l1 = ((predicted - truth) / scale).abs().sum()
    return l1, (1 - giou(predicted, truth).diagonal()).sum()
    ### END SOLUTION


# %% test="losses-focal"
# 1 mark: a score of one half that should be 1, and one that should be 0
check(
    focal_loss,
    torch.tensor([0.0, 0.0]),
    torch.tensor([1.0, 0.0]),
    gives=torch.tensor([0.0433, 0.13]),
)
### BEGIN HIDDEN TESTS
check(
    focal_loss,
    V.flat_logits,
    V.hot,
    gives=V.focal,
    hints={
        "This is the cross-entropy, without weights.": V.focal_plain,
        "0.25 is for what should be 1, 0.75 for what should be 0.": V.focal_alpha,
    },
)
### END HIDDEN TESTS

# %% test="losses-shape"
# 1 mark: one loss for each element, nothing is summed yet; with a gradient (hidden)
### BEGIN HIDDEN TESTS
check(lambda x, t: list(focal_loss(x, t).shape), V.flat_logits, V.hot, of=focal_loss, gives=[3, 2])
check(
    lambda x, t: focal_loss(x.requires_grad_(), t).requires_grad,
    V.flat_logits,
    V.hot,
    of=focal_loss,
    gives=True,
    hints={"The loss has lost its gradient: nothing can be learned from it.": False},
)
### END HIDDEN TESTS

# %% test="losses-box"
# 1 mark: a box on its object costs nothing
check(
    box_losses,
    torch.tensor([[10.0, 10.0, 40.0, 50.0]]),
    torch.tensor([[10.0, 10.0, 40.0, 50.0]]),
    (100, 200),
    gives=(0.0, 0.0),
)

# %% test="losses-box-values"
# 1 mark: the right sums over three pairs, with a gradient (hidden)
### BEGIN HIDDEN TESTS
check(
    box_losses,
    V.pairs_p,
    V.pairs_t,
    V.size,
    gives=V.pair_losses,
    hints={"These are means; the task asks for sums.": V.pair_means},
)
check(
    lambda p, t: [
        getattr(loss, "requires_grad", False) for loss in box_losses(p.requires_grad_(), t, V.size)
    ],
    V.pairs_p,
    V.pairs_t,
    of=box_losses,
    gives=[True, True],
    hints={"The losses have lost their gradient: nothing can be learned.": [False, False]},
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The set loss
#
# Now all of it. `proposals` and `objects` are what `match` gave.
#
# - **cls**: the focal loss of *all* proposals. A matched proposal should say 1 at its object's
#   class and 0 elsewhere, every other proposal 0 everywhere. The sum, times 2.
# - **l1**, **giou**: of the matched pairs alone, the sums of task 4, times 5 and times 2.
# - All three are divided by the number of pairs. An image without objects has none: divide by 1
#   then, the loss must stay finite.
#
# <details><summary>Hint</summary>
#
# `targets = torch.zeros_like(logits)`, and then one line sets the ones:
# `targets[proposals, labels[objects]] = 1`.
# </details>


# %% solution="set-loss"
def set_loss(logits, boxes, labels, truth, size, proposals, objects):
    """{"cls": ..., "l1": ..., "giou": ...}: three scalars with a gradient."""
    ### BEGIN SOLUTION
    targets = torch.zeros_like(logits)
    targets[proposals, labels[objects]] = 1
    pairs_found = max(len(proposals), 1)
    l1, overlap = box_losses(boxes[proposals], truth[objects], size)
    return {
        "cls": 2 * focal_loss(logits, targets).sum() / pairs_found,
        "l1": 5 * l1 / pairs_found,
        "giou": 2 * overlap / pairs_found,
    }
    ### END SOLUTION


# %% test="set-cls"
# 1 mark: the class loss counts every proposal, matched or not
check(
    lambda: set_loss(
        torch.zeros(4, 2),
        torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(4, 1),
        torch.tensor([1]),
        torch.tensor([[0.0, 0.0, 9.0, 9.0]]),
        (90, 90),
        torch.tensor([2]),
        torch.tensor([0]),
    )["cls"],
    of=set_loss,
    gives=1.9062,
)
### BEGIN HIDDEN TESTS
check(
    lambda *a: set_loss(*a)["cls"],
    V.logits,
    V.boxes_p,
    V.classes,
    V.truth,
    V.size,
    V.rows,
    V.columns,
    of=set_loss,
    gives=V.set_cls,
    hints={"What is it to be divided by?": V.set_cls_n},
)
### END HIDDEN TESTS

# %% test="set-boxes"
# 1 mark: the box losses of the matched pairs (hidden)
### BEGIN HIDDEN TESTS
check(
    lambda *a: (lambda s: [s["l1"], s["giou"]])(set_loss(*a)),
    V.logits,
    V.boxes_p,
    V.classes,
    V.truth,
    V.size,
    V.rows,
    V.columns,
    of=set_loss,
    gives=V.set_boxes,
)
check(
    lambda *a: (lambda s: [s["l1"], s["giou"]])(set_loss(*a)),
    V.logits[:1],
    V.boxes_p[:1],
    V.classes,
    V.truth,
    V.size,
    torch.tensor([0]),
    V.columns[:1],
    of=set_loss,
    gives=V.set_few,
    hints={"One proposal, three objects: how many pairs are there?": V.set_few_n},
)
### END HIDDEN TESTS

# %% test="set-none"
# 1 mark: an image without an object (hidden)
### BEGIN HIDDEN TESTS
check(
    set_loss,
    V.logits,
    V.boxes_p,
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(0, 4),
    V.size,
    torch.zeros(0, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
    gives=V.none_loss,
)
### END HIDDEN TESTS


# %% test="set-gradient"
# 1 mark: boxes learn where they are matched, and only there; scores learn (hidden)
### BEGIN HIDDEN TESTS
def learners(part):
    logits, boxes = V.logits.requires_grad_(), V.boxes_p.requires_grad_()
    found = set_loss(logits, boxes, V.classes, V.truth, V.size, V.rows, V.columns)[part]
    inputs = logits if part == "cls" else boxes
    if found.requires_grad:
        found.backward()
    if inputs.grad is None:
        return []
    return inputs.grad.abs().sum(-1).nonzero().flatten().tolist()


for part in ("l1", "giou"):
    check(lambda part=part: learners(part), of=set_loss, gives=[0, 3, 5])
# Of whichever proposals: that was the test of cls.
check(
    lambda: bool(learners("cls")),
    of=set_loss,
    gives=True,
    hints={"The scores get no gradient from cls: nothing would learn to find.": False},
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Think before you compute
#
# | | object 0 | object 1 |
# | --- | --- | --- |
# | proposal 0 | {V.q_00} | {V.q_01} |
# | proposal 1 | {V.q_10} | {V.q_11} |
#
# 1. What do the pairs of the best matching cost together?
# 2. What do the pairs cost together if the cheapest pair is taken first, and then the cheapest of
#    what is left?

# %% solution="think"
# Replace the line below by two lines: best_sum = ... and greedy_sum = ...
### BEGIN SOLUTION
best_sum = V.best_sum
greedy_sum = V.greedy_sum
### END SOLUTION

# %% test="think-best"
# 1 mark
check.that(best_sum > 0, "A sum of these costs is above 0.")
### BEGIN HIDDEN TESTS
check.that(abs(best_sum - V.best_sum) < 1e-3, "best_sum is another number.")
### END HIDDEN TESTS

# %% test="think-greedy"
# 1 mark
check.that(greedy_sum > 0, "A sum of these costs is above 0.")
### BEGIN HIDDEN TESTS
check.that(abs(greedy_sum - V.greedy_sum) < 1e-3, "greedy_sum is another number.")
### END HIDDEN TESTS

# %% [markdown]
# ## Hand in
#
# 1. *Kernel, Restart kernel and run all cells*: it goes on below a test that fails; save.
# 2. Run the cell below: it runs the saved file from top to bottom in a fresh kernel, as it will be
#    graded, and lists your tests. What is hidden, parts of tests and
#    whole ones, counts only when your work is graded.
# 3. Hand in this file, `matching.ipynb`, where your instructor told you to.

# %% locked="hand-in"
from sparse_rcnn_lab.course.classroom.validate import before_handing_in

before_handing_in("matching.ipynb")
