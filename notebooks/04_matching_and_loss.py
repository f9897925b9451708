# %% [markdown]
# # 4. Matching and the set loss
#
# **Aim.** Understand the one rule that makes the proposals share out the objects: each object
# pays exactly one proposal.
#
# **You will see** the cost matrix as a picture, play the assignment by hand against the
# computer, and find out why this detector needs no non-maximum suppression.
#
# **Needs** neither a GPU nor a network. Under a minute.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
val = srl.open_data("shapes", "val")
sample = val[6]  # an image with its ground truth: boxes and labels
trace = detector.trace(sample)  # ground truth comes along
figures.stage_grid(trace, threshold=0.5)

# %% [markdown]
# ## The problem
#
# In training we know the objects, the **ground truth**: here $M = 6$ of them, dashed. This model
# finds three with a score of at least 0.5.

# %%
figures.detection_panels(
    [trace.detections(threshold=0.5)],
    trace.image,
    ["truth dashed"],
    gt_boxes=trace.gt_boxes,
    width=5,
)

# %% [markdown]
# And we have $N = 20$ answers. Which answer is to be judged by which object? Ordinary detectors
# say: every box that overlaps an object enough is an answer for it. Then several boxes are
# rewarded for one object, several will shout, and someone has to silence all but one: non-maximum
# suppression, **NMS**.
#
# Sparse R-CNN says: one object, one proposal, whichever is **cheapest** altogether. The cost of
# proposal $i$ for object $j$ (section 3.3 of the [paper](https://arxiv.org/abs/2011.12450), and
# its loss, equation 1):
#
# $$C_{ij} = \lambda_{cls}\, C^{cls}_{ij} + \lambda_{L1} \lVert b_i - b_j \rVert_1
# - \lambda_{giou}\, \mathrm{GIoU}(b_i, b_j), \qquad \lambda = (2, 5, 2)$$
#
# Wrong class: expensive. $C^{cls}$ is low, even negative, when the proposal gives a high score to
# the class of the object. Box far away: expensive. L1 adds up how far the four edges are off, in
# parts of the picture's width and height. Boxes overlap: cheap. **GIoU** is 1 for equal boxes and
# falls towards -1 the farther they are apart, where the plain overlap (IoU) stays at 0. As a
# picture, at stage 4:

# %%
costs = lessons.costs(trace, stage=4)
costs.figure()

# %% [markdown]
# Rows are proposals, columns objects: the star, the red heart, the small cross, the big cross, the
# triangle and the green heart. Some columns have **several dark cells**: proposals 6 and 13 would
# both do for the star, 7 and 18 for the green heart. For the triangle only one would, and for the
# small cross none is cheap. The three small pictures are the parts. Where the
# class is still uncertain, place alone decides.
#
# ## Hungarian by hand
#
# Choose a proposal for each object, no proposal twice, as cheap as you can. The title tells you
# how far you are from the best.

# %%
lessons.matching_game(costs)

# %% [markdown]
# The obvious way, each object in turn takes the cheapest that is left, happens to be the best here.
# It is not always. Another picture, after its first stage:

# %%
costs = lessons.costs(detector.trace(val[18]), stage=1)
greedy, best = costs.greedy(), costs.hungarian()
print(f"one after the other: {costs.price(greedy):.2f}")
print(f"Hungarian:           {costs.price(best):.2f}")
for (row_a, column), (row_b, _) in zip(greedy, best, strict=True):
    note = "   <- differs" if row_a != row_b else ""
    print(f"  {column + 1} {costs.objects[column]:<10} proposal {row_a:2}   {row_b:2}{note}")

# %% [markdown]
# The square (2) came first and took the proposal that the heart (3) needed more: it can do with
# another one for 0.6 more, the heart saves 1.3. The **Hungarian algorithm** finds the cheapest
# assignment of all, here among $20 \cdot 19 \cdot 18 \cdot 17 = 116\,280$, on the picture above
# among 28 million, in about $N^3$ steps (`scipy.optimize.linear_sum_assignment`).
#
# ## The set loss
#
# Matched pairs pay for class and box; **all other proposals pay for every score that they
# give** (their target is "nothing"). The loss of a stage, with $K$ pairs:
#
# $$\mathcal{L} = \frac{1}{K} \left( \lambda_{cls}\, \mathcal{L}_{focal} +
# \lambda_{L1}\, \mathcal{L}_{L1} + \lambda_{giou}\, \mathcal{L}_{giou} \right)$$
#
# and the six stages' losses are added. Every stage is matched for itself. The **focal** loss asks
# for a score of 1 in matched pairs and of 0 elsewhere, and counts little what is nearly right
# already: else the many easy zeros would drown the rest.

# %%
loss = lessons.losses(trace)
lessons.bars(
    {"class": loss.cls.tolist(), "L1": loss.l1.tolist(), "GIoU": loss.giou.tolist()},
    list(range(1, 7)),
    title="The loss of each stage on this picture",
    across="stage",
    up="weighted loss",
)

# %% [markdown]
# Class and boxes get better up to stage 4. After that nothing is gained on this picture, the boxes
# lose a little: the last stages choose, they hardly move anything (lesson 7).
#
# ## Ah: the loss silences duplicates
#
# Two proposals on the same object, both right. One is matched. Which way does the loss push the
# class score of each? `push` is minus the gradient: above 0 the score rises, below it falls.

# %%
STAGE = 3
push = lessons.push(trace, stage=STAGE)  # [proposals, classes]
costs = lessons.costs(trace, stage=STAGE)
column = 0
label = int(trace.gt_labels[column])
matched = dict((column, row) for row, column in costs.hungarian())[column]
print(f"the {costs.objects[column]}, at stage {STAGE}:")
for row in costs.total[:, column].argsort()[:4].tolist():
    score = float(trace.scores()[STAGE - 1, row, label])
    way = "up" if push[row, label] > 0 else "down"
    note = "  <- matched" if row == matched else ""
    print(f"  proposal {row:2}  score {score:.2f}  pushed {way:<4} ({push[row, label]:+.4f}){note}")

# %% [markdown]
# Only the matched one is pushed up. The others, on the same star, are pushed **down**: being
# right is not enough, you have to be *the one*. To know who that is, proposals ask each other:
# that is what self-attention has learned (lesson 3). Training itself has built the suppression
# in. Count what is left for NMS, and what happens when only one of the four attention heads may
# listen:

# %%
COUNT = lessons.pick(full=60, fast=6)
traces = [detector.trace(val[i]) for i in range(COUNT)]
talk = lessons.count_duplicates(traces)
deaf = lessons.count_duplicates(
    detector.trace(val[i], switches=srl.Switches(heads=(3,))) for i in range(COUNT)
)
lessons.bars(
    {
        "detections": talk.found,
        "left after NMS": talk.kept,
        "detections, one head of four": deaf.found,
    },
    list(range(1, 7)),
    title="How much is there for NMS to do?",
    detail=f"{COUNT} pictures, {talk.objects} objects, score of at least .30, NMS at an IoU of .5",
    across="stage",
    up="boxes",
)

# %% [markdown]
# Stage 1 gives about as many detections as there are objects, but NMS would remove two of five:
# some objects are found twice, others not at all. From stage 4 on there is one detection an
# object and NMS has next to nothing to do. Nobody told the proposals to take turns: every
# stage of this model was matched one to one, as in the paper, and the loss did the rest.
#
# The green bars say who does it. With one head of four, four times as many answer at stage 1, and
# at the end there are still 344 boxes for 204 objects, half of which NMS would remove: each
# object is found about twice. A proposal that does not hear the others does not know that it
# should be silent. (With attention off altogether, `srl.Switches(self_attention=False)`, AP falls
# to nearly nothing: without what attention adds, later layers do not recognise the features.)
#
# ## Exercises
#
# **1.** Add NMS and measure: does it help, at stage 6, on the picture above?
# `lessons.suppressed(trace.detections(6, threshold=0.3))`.
#
# <details><summary>Answer</summary>
#
# There is nothing for it to do: five boxes before, five after. On all sixty pictures of the
# figure it takes four of 204. And NMS sees only that two boxes overlap: where two objects of a
# class lie on each other, it would take a right one.
# </details>
#
# **2.** Only the class counts: `from sparse_rcnn_lab.config import LossConfig`, then
# `lessons.costs(trace, 1, LossConfig(l1=0, giou=0)).figure()`. Why is this a bad match at stage
# 1?
#
# <details><summary>Answer</summary>
#
# The two crosses have identical columns, and so have the two hearts: the class cost cannot tell
# them apart. Here the red heart gets proposal 4, which sits in the upper left corner, the small
# cross one in the middle of the picture. The box loss would pull both across the picture.
# </details>
#
# **3.** Is the same proposal matched with the same object at every stage? `trace.matches` is
# `[stage, proposal]`, -1 for none.
#
# <details><summary>Answer</summary>
#
# From stage 3 on, yes. The green heart goes from proposal 7 to 18 and back, the star and the red
# heart change hands between stages 2 and 3: each stage is matched for itself. While a detector is
# still learning such jumps are common, from stage to stage and from step to step, and one reason
# why these detectors learn slowly.
# </details>
#
# **4.** What does an image without any object teach?
#
# <details><summary>Answer</summary>
#
# All $N$ proposals are pushed down for all classes. The number of pairs is 0, and we divide by
# 1 instead ([decision 0004](../docs/decisions/0004-normaliser-of-empty-batches.md)).
# </details>
#
# ## Read next
#
# [Lesson 5](05_train.ipynb): let it learn. Where the idea of the set loss comes from: DETR,
# [arXiv 2005.12872](https://arxiv.org/abs/2005.12872).
