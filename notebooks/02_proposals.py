# %% [markdown]
# # 2. Proposals: what is learned?
#
# **Aim.** Find out what the learned proposals hold: boxes, features, and which of the two
# matters.
#
# **You will see** that a proposal owns a place and not a class; that when you remove the winner
# another one may be ready; and a puzzle about where the boxes start, with its answer.
#
# **Needs** neither a GPU nor a network. Two minutes.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

cards = srl.load("small-cards")
shapes = srl.load("nano-shapes")  # six drawn shapes, 20 proposals: fast enough to ask many images
val = srl.open_data("shapes", "val")  # drawn on the fly, with their ground truth
COUNT = lessons.pick(full=60, fast=3)

# %% [markdown]
# ## The boxes
#
# A proposal box is four numbers between 0 and 1: centre (x and y), width, height, relative to the
# image. In most detectors boxes like these are computed from the image or laid out by hand. Here
# they are weights, trained by gradient descent with all others, and the same for every image.

# %%
figures.learned_boxes(cards.trace(lessons.example("cards_1.jpg")))

# %% [markdown]
# The paper reads such boxes as statistics of where objects may be. Be careful with that: these
# began as an even grid of boxes 0.25 wide and 0.29 high. Training has moved each by a twentieth of
# the image or so, a little towards the middle, and made them a tenth larger. Most of what you see
# is where they started.
#
# ## A proposal owns a place
#
# Now the other model. Run it on many images and note, for each proposal, where its detections
# (its **wins**) lie:

# %%
traces = [shapes.trace(val[i]) for i in range(COUNT)]
figures.proposal_overview(analysis.proposal_statistics_of(traces, threshold=0.5))

# %% [markdown]
# Eighteen of the twenty stay in a neighbourhood of their own, near where the learned box lies, and
# take **whatever class comes along** (the colours). Proposals are places, not classes. The boxes
# began as a grid, but nobody told the proposals to share out the image like that: it is the
# cheapest way to answer for each object exactly once (lesson 4).
#
# The other two, 0 and 1, have the largest boxes and won once in sixty images. They can do more:
# with `num_proposals=1` proposal 0 names an object in each of the sixty, right every time. This
# model has also practised with its first few proposals alone (lesson 6). Where all twenty are at
# work, these two leave it to the others.
#
# ## Remove the winner
#
# The **winner** of a card is the proposal that speaks for it in the end. Take away the one that
# found the king, and run the stages again. Guess first: is the king lost?

# %%
session = srl.Session(cards, lessons.example("cards_1.jpg"))
before = session.base
found = before.detections(threshold=0.5)
winner = int(found.proposals[found.names().index("king")])
session.drop(winner)
after = session.run()
print(srl.trace_diff(before, after, threshold=0.5))

# %%
figures.trace_panels(
    [before, after], ["all proposals", f"without proposal {winner}"], columns=2, width=9
)

# %% [markdown]
# Not at all. Proposal 7 takes over, with the same box, at 0.72. While the winner was there, 7 had
# seen the card as well (`before.scores()[:, 7]`: king 0.76 at stage 2), but fell silent at stage 4
# (lesson 3 shows how they talk). Go on, always with the best that is left for the king, until it
# hurts:

# %%
session.reset()
session.drop(winner)
for _ in range(4):
    found = session.run().detections(threshold=0.0)
    king = found.names().index("king")
    print(f"proposal {int(found.proposals[king]):2}: king {float(found.scores[king]):.2f}")
    session.drop(int(found.proposals[king]))

# %% [markdown]
# Each of these **deputies** is less sure than the one before. The second is below 0.5 already, and
# the fourth no longer knows a king.
#
# ## How many?
#
# Move the slider: only the first $N$ proposals look at the image.

# %%
lessons.sliders(
    lambda proposals: figures.stage_grid(
        cards.trace(lessons.example("cards_1.jpg"), num_proposals=proposals),
        threshold=0.5,
    ),
    proposals=(1, 50, 15),
)


# %%
def ap(detector, **options):
    """AP after stage 6 on the first COUNT images."""
    found = srl.evaluate(detector, val, limit=COUNT, stages=[6], progress=False, **options)
    return found.per_stage[0].AP


numbers = [1, 3, 5, 10, 15, 20]
lessons.lines(
    {"nano-shapes": [ap(shapes, num_proposals=n) for n in numbers]},
    numbers,
    title="Fewer proposals, fewer objects",
    detail=f"AP after stage 6, {COUNT} images with 3 or so objects each",
    across="proposals used",
    up="AP (0 to 1)",
    top=1.0,
)

# %% [markdown]
# **AP**, average precision, is the usual grade of a detector: 1 is perfect; it counts missed
# objects, wrong classes, false alarms and sloppy boxes alike. A box is right when its **IoU** with
# the object (intersection over union: the area that both cover, over the area that either covers)
# is high enough; AP is the mean over ten such limits, from 0.5 to 0.95.
#
# Twenty proposals serve a few objects an image well, and five come near them here (0.80 and 0.89).
# The paper uses 100 to 300 for COCO, whose scenes are crowded.
#
# ## The initialisation puzzle
#
# The paper tried four starts for the boxes before training: all in the centre, all the **whole
# image**, a **grid**, **random**. After training, AP was nearly the same. So the boxes do not
# matter?
#
# Let us exchange the learned proposals of our trained model and see. Each group of bars has other
# boxes, each colour other features; all other weights stay as they are.

# %%
box_starts = ["learned", "grid", "random", "image"]
feature_starts = ["learned", "shuffled", "mean", "random"]
table = {}
for features in feature_starts:
    starts = [lessons.with_start(shapes, boxes, features) for boxes in box_starts]
    table[f"features: {features}"] = [ap(start) for start in starts]
lessons.bars(
    table,
    box_starts,
    title="The same stages, other proposals",
    detail=f"AP after stage 6, {COUNT} images",
    across="boxes",
    up="AP (0 to 1)",
    top=1.0,
)

# %% [markdown]
# Look long at this one.
#
# - **Boxes: whole image** costs more than half of AP. The very start that the paper trains from!
#   That is the answer to the puzzle: where you begin *training* hardly matters, because training
#   **teaches the stages to expect the boxes where they are**. (The boxes themselves hardly move;
#   [the report](../docs/report.md) asks why.) Afterwards the two belong together.
# - A **grid** works nearly as well as the learned boxes: what the stages expect is an even cover.
#   **Random** boxes leave holes in it and cost a third.
# - **Features shuffled** among the proposals: hardly a difference, the most on random boxes (0.57
#   instead of 0.61). The features are not names of proposals. Before the first look at the image
#   they are all good for much the same thing.
# - **Features: the mean** of all, or **random** ones, cost a tenth on the learned boxes. On a grid
#   the mean costs less (0.84 instead of 0.87). On whole images it leaves next to nothing: box and
#   feature are then the same for all, and so is what they say. There random features do a little
#   better than the learned ones (0.42 and 0.38); this figure does not say why.
#
# ## Exercises
#
# **1.** Does every object have a deputy? Drop the winner of the ace in `cards_2.jpg` (proposal 0,
# score 0.81), in a new `srl.Session`. Look where the boxes lie.
#
# <details><summary>Answer</summary>
#
# No. `srl.trace_diff` says that an ace is gained, but it is another one: proposal 29 now speaks,
# at 0.81, for the ace at the right edge. On the old ace nobody says more than 0.05. A high score
# does not tell you whether there is a deputy. (And an unsure queen falls below 0.5.)
# </details>

# %% [markdown]
# **2.** Move the learned box of the king's winner instead of removing it: `session.reset()`, then
# `session.edit(winner, box=(0, 0, 40, 40))` and `session.run()`. Does it come back?
#
# <details><summary>Answer</summary>
#
# It does not travel across the image: it stays in its corner, with a score near 0, and proposal
# 7 takes the king. Boxes are refined from what lies inside them, and there is no king in a corner.
# </details>

# %% [markdown]
# **3.** Give all proposals the whole image, but look at the stages:
# `srl.evaluate(lessons.with_start(shapes, "image"), val, limit=60).table()`. Does anything
# recover?
#
# <details><summary>Answer</summary>
#
# Some: from 0.02 at stage 1 to 0.38 at stage 6. Six stages are too few to shrink every box from
# the whole image to an object when most were trained to make smaller corrections. Not all: the
# first two learned boxes have sides of 0.8 to 0.9 of the image, as they had to work
# alone as well (lesson 6). A twin that was trained without that comes to 0.02.
# </details>

# %% [markdown]
# ## Read next
#
# [Lesson 3](03_inside_a_stage.ipynb): what happens between $b_{s-1}$ and $b_s$. In the paper:
# "Learnable proposal box" and "Learnable proposal feature" (section 3.2), and the ablation on
# initialisation (section 4).
