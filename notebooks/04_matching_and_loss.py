# %% [markdown]
# # 4. Matching and the set loss
#
# **Aim.** Understand the one rule that makes the proposals share out the objects: each object
# is matched with exactly one proposal.
#
# **You will see** the cost matrix as an image, play the assignment by hand against the
# computer, and find out why this detector needs no non-maximum suppression.
#
# **Needs** neither a GPU nor a network. Under a minute.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
val = srl.open_data("shapes", "val")
sample = val[328]  # an image with its ground truth: boxes and labels
trace = detector.trace(sample)  # ground truth comes along
figures.stage_grid(trace, threshold=0.5)

# %% [markdown]
# ## The problem
#
# In training we know the objects, the **ground truth**: here $M = 5$ of them, dashed. This model
# finds four with a score of at least 0.5.

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
# proposal $i$ for object $j$ (equation 1 in section 3.2 of the
# [paper](https://arxiv.org/abs/2011.12450)):
#
# $$C_{ij} = \lambda_{cls}\, C^{cls}_{ij} + \lambda_{L1} \lVert b_i - b_j \rVert_1
# - \lambda_{giou}\, \mathrm{GIoU}(b_i, b_j), \qquad \lambda = (2, 5, 2)$$
#
# Wrong class: expensive. $C^{cls}$ is low, even negative, when the proposal gives a high score to
# the class of the object. Box far away: expensive. L1 adds up how far the four edges are off, in
# parts of the image's width and height. Boxes overlap: cheap. **GIoU** is 1 for equal boxes and
# falls towards -1 the farther they are apart, where IoU (lesson 2) stays at 0. As an
# image, at stage 4:

# %%
costs = lessons.costs(trace, stage=4)
costs.figure(pairs=[])

# %% [markdown]
# Rows are proposals, columns objects: (1) the green heart, (2) the triangle, (3) the big cross, (4)
# the small cross and (5) the red heart. The three small matrices are the parts. In L1 and GIoU most
# columns have **several dark cells**: several proposals lie on that object, and place alone would
# hardly decide. Only one of them gives it the right class as well, and that one is the cheapest.
# For the green heart none is cheap: the cheapest, proposal 15, sits on the red one.
#
# ## Hungarian by hand
#
# Choose a proposal for each object, no proposal twice, as cheap as you can. The title tells you
# how far you are from the best.

# %%
lessons.matching_game(costs)

# %% [markdown]
# The obvious, **greedy** way is that each object in turn takes the cheapest that is left. It is not
# always the best:

# %%
greedy, best = costs.greedy(), costs.hungarian()
print(f"one after the other: {costs.price(greedy):.2f}")
print(f"Hungarian:           {costs.price(best):.2f}")
for (row_a, column), (row_b, _) in zip(greedy, best, strict=True):
    note = "   <- differs" if row_a != row_b else ""
    print(f"  {column + 1} {costs.objects[column]:<10} proposal {row_a:2}   {row_b:2}{note}")
costs.figure()

# %% [markdown]
# The green heart (1) came first and took the proposal that the red one (5) needed more. The
# **Hungarian algorithm** finds the cheapest assignment of all (the best *bipartite matching*), here
# among $20 \cdot 19 \cdots 16 \approx 1.9$ million, in about $N^3$ steps
# (`scipy.optimize.linear_sum_assignment`).
#
# ## The set loss
#
# A matched proposal is held to the class and the box of its object; **all others are to be silent**
# (their target is "nothing", so every score that they give costs). The loss of a stage, with $K$
# pairs:
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
    title="The loss of each stage on this image",
    across="stage",
    up="weighted loss",
)

# %% [markdown]
# The boxes get better up to stage 5. The class part hardly falls after stage 2: from stage 4 on
# nearly all of it is one object, the green heart. Its matched proposal, 9, gives the class heart no
# more than 0.05, and pays for that.
#
# ## The loss silences duplicates
#
# Two proposals on the same object, both right. One is matched. Which way does the loss push the
# class score of each? `push` is minus the gradient: above 0 the score rises, below it falls.

# %%
STAGE = 2
push = lessons.push(trace, stage=STAGE)  # [proposals, classes]
early = lessons.costs(trace, stage=STAGE)
column = 2
label = int(trace.gt_labels[column])
matched = dict((column, row) for row, column in early.hungarian())[column]
print(f"the big {early.objects[column]}, at stage {STAGE}:")
for row in early.total[:, column].argsort()[:4].tolist():
    score = float(trace.scores()[STAGE - 1, row, label])
    way = "up" if push[row, label] > 0 else "down"
    note = "  <- matched" if row == matched else ""
    print(f"  proposal {row:2}  score {score:.2f}  pushed {way:<4} ({push[row, label]:+.4f}){note}")

# %% [markdown]
# Only the matched one is pushed up. The others are pushed **down**, and proposal 16 the most,
# whose box fits the cross as well (an IoU of 0.92): being right is not enough, you have to be *the
# one*. To know who that is, proposals can ask each other, by self-attention (lesson 3). Training
# itself has built the suppression in. Count what is left for NMS, and what the proposals say when
# there is nobody to ask, each run alone:

# %%
COUNT = lessons.pick(full=60, fast=3)


def one_by_one(sample):
    """One trace for each proposal, as if there were no other."""
    session = srl.Session(detector, sample)
    for proposal in session.proposals:
        session.keep(proposal)
        yield session.run()
        session.reset()


together = lessons.count_duplicates(detector.trace(val[i]) for i in range(COUNT))
alone = lessons.count_duplicates(trace for i in range(COUNT) for trace in one_by_one(val[i]))
lessons.bars(
    {
        "detections": together.found,
        "left after NMS": together.kept,
        "detections, each proposal alone": alone.found,
    },
    list(range(1, 7)),
    title="How much is there for NMS to do?",
    detail=f"{COUNT} images, {together.objects} objects, score at least .30, NMS at an IoU of .5",
    across="stage",
    up="boxes",
)

# %% [markdown]
# From stage 4 on there is nearly one detection an object and NMS has next to nothing to do. At the
# first three stages it has. At stage 1 it would remove 85 boxes, but 61 of these are a second name
# for the same box, as the class is still open. Copies by other proposals are 24 there, 43 at
# stage 2 and 29 at stage 3. All stages of this model were matched one to one, as in the paper; but
# the first talk comes before the first look, when nobody can know yet who sees what.
#
# The third bars are the same proposals on the same images. Alone, each says what it sees: 941
# boxes at stage 6, four or five for each object, and 889 of them have the right class and an IoU
# of at least 0.5. Together they say 204. It is not the image that silences the rest, it is the
# others. (To switch self-attention off, as lesson 3 did with the cards, is cruder. Here the stages
# then do something they never did in training: of 425 boxes at stage 6 only 21 are right.)
#
# ## Exercises
#
# **1.** Add NMS and measure: does it help, at stage 6, on the image above?
# `lessons.suppressed(trace.detections(6, threshold=0.3))`.
#
# <details><summary>Answer</summary>
#
# It has nothing to do: four detections, four left. In the figure above it would take four of 204
# boxes at stage 6, and all four are copies, so it helps a little. But NMS sees only that two boxes
# overlap: where two objects lie on each other, it would take a right one as well.
# </details>

# %% [markdown]
# **2.** Only the class counts: `from sparse_rcnn_lab.core.config import LossConfig`, then
# `lessons.costs(trace, 1, LossConfig(l1=0, giou=0)).figure()`. Why is this a bad match at stage
# 1?
#
# <details><summary>Answer</summary>
#
# The two crosses have identical columns, and so have the two hearts: the class cost cannot tell
# them apart. Here the hearts get proposals 3 and 6, which sit on the small cross and on the
# triangle, and the small cross gets 15, which sits on the red heart. The box loss would pull all
# three across the image.
# </details>

# %% [markdown]
# **3.** Is the same proposal matched with the same object at every stage? `trace.matches` is
# `[stage, proposal]`, -1 for none.
#
# <details><summary>Answer</summary>
#
# Nearly. Four of the five objects keep theirs from the first stage to the last. The green heart,
# which nobody is sure of, changes hands between stages 2 and 3: each stage is matched for itself.
# While a detector is still learning such jumps are common, from stage to stage and from step to
# step, and one reason why these detectors learn slowly.
# </details>

# %% [markdown]
# **4.** What does an image without any object teach?
#
# <details><summary>Answer</summary>
#
# All $N$ proposals are pushed down for all classes. The number of pairs is 0, and we divide by
# 1 instead ([decision 0004](../docs/decisions/0004-normaliser-of-empty-batches.md)).
# </details>

# %% [markdown]
# ## Read next
#
# [Lesson 5](05_train.ipynb): let it learn. Where the idea of the set loss comes from: DETR,
# [arXiv 2005.12872](https://arxiv.org/abs/2005.12872).
