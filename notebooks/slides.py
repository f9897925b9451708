# %% [markdown]
# # Sparse R-CNN
#
# Fifty questions, asked of every image, six times over
#
# Note: The deck follows lessons 1 to 7; a slide has the number of its lesson. Arrow keys or a tap
# turn the page, N shows these notes, F fills the screen, printing gives one page a slide. One
# lecture of 90 minutes takes all of it, two of 45 part it after "When nobody talks".

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

cards = srl.load("small-cards")
shapes = srl.load("nano-shapes")
image = lessons.example("cards_1.jpg")
RECORD = ("attention", "roi_features", "dynamic_filters", "filtered_features")
trace = cards.trace(image, record=RECORD)
nine = int(trace.detections(threshold=0.5).proposals[0])
val = srl.open_data("shapes", "val")
COUNT = lessons.pick(full=60, fast=6)
quiet = {"limit": COUNT, "cache": False, "progress": False}

# %% [markdown]
# ## What a detector returns
#
# A box, a class, a score from 0 to 1. Nothing else.
#
# Note: Ask how one would find these boxes. Most answers slide a window over the image: that is what
# detectors did for ten years, tens of thousands of boxes an image, nearly all thrown away.

# %%
figures.detection_panels([trace.detections(threshold=0.5)], trace.image, ["cards"], width=6)

# %% [markdown]
# ## The same fifty boxes for every image (1)
#
# Learned like any other weight. Each comes with a feature of 112 numbers.
#
# Note: They have not seen the image. Lesson 2 asks what is in them, and which part matters.

# %%
figures.learned_boxes(trace, width=8)

# %% [markdown]
# ## Six stages later (1)
#
# Each stage looks, moves the boxes, and gives every proposal a class.
#
# Note: Let them follow one colour. Where do two proposals claim one card, and when does that end?

# %%
figures.stage_grid(trace, threshold=0.5, width=10)

# %% [markdown]
# ## One proposal's way (1)
#
# Most of the way is done after two stages.

# %%
figures.box_trails(trace, nine, width=6)

# %% [markdown]
# ## When does it make up its mind? (1)
#
# *Where* comes first, then *what*, and last *which of us says it*.
#
# Note: Around stage 4 all but one fall silent. Nobody cleans up afterwards: no non-maximum
# suppression. Why is the question that the rest of the lecture answers.

# %%
figures.score_curves(trace, threshold=0.5, width=7)

# %% [markdown]
# ## An image without cards (1)
#
# They move, they look, and they end with scores near 0.
#
# Note: The proposals are not found in the image. They are questions asked of it.

# %%
figures.stage_grid(
    cards.trace(lessons.example("cells_1.jpg")), threshold=0.5, layout="strip", width=11
)

# %% [markdown]
# ## A proposal owns a place, not a class (2)
#
# Twenty proposals of a smaller model, over many images. Colour is class.
#
# Note: Nobody told them to share out the image. It is the cheapest way to answer for each object
# exactly once.

# %%
traces = [shapes.trace(val[i]) for i in range(COUNT)]
figures.proposal_overview(analysis.proposal_statistics_of(traces, threshold=0.5))

# %% [markdown]
# ## Inside a stage (3)
#
# 1. **Talk**: self-attention among all proposals
# 2. **Look**: read the part of the image under the box
# 3. **Interact**: filter it with weights made from the proposal itself
# 4. **Decide**: a class, and how the box shall move
#
# Three times the same pattern: *do something with x, add it to x, normalise the sum.*
#
# Note: Figure 3 of the paper. Assignment 3 builds exactly this.

# %% [markdown]
# ## 1. Talk (3)
#
# $$A = \mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{D/8}}\right), \qquad \text{told} = A V$$
#
# Besides itself, it looks most at the one on the same card.

# %%
figures.attention_map(trace, nine, stage=2, width=8)

# %% [markdown]
# ## 2. Look (3)
#
# Large boxes read from a coarse map, small ones from a fine one:
#
# $$\ell = 2 + \left\lfloor \log_2 \frac{\sqrt{w h}}{56} \right\rfloor$$

# %%
figures.roi_grid(trace, nine, stage=2, width=8)

# %% [markdown]
# ## 3. Interact (3)
#
# $$[F_1, F_2] = \mathrm{Linear}(q), \qquad
# x' = \mathrm{ReLU}(\mathrm{LN}(\mathrm{ReLU}(\mathrm{LN}(x F_1)) F_2))$$
#
# The feature *is* the weights of two layers: for this proposal, in this image, at this stage.

# %%
figures.filter_effect(trace, nine, stage=2, width=8)

# %% [markdown]
# ## Whose filters are they? (3)
#
# Note: Guess first. With the average of all filters the detector is blind, though every weight is
# still in place and every box still looks at its own card.

# %%
session = srl.Session(cards, image, record=RECORD)
average = session.run(ablation=srl.Ablation(filters="mean"))
another = session.run(ablation=srl.Ablation(filters="rolled"))
figures.trace_panels(
    [session.base, average, another], ["own", "the average", "another's"], columns=3, width=11
)

# %% [markdown]
# ## 4. Decide (3)
#
# $$c_x' = c_x + \tfrac{\delta_x}{2} w, \quad c_y' = c_y + \tfrac{\delta_y}{2} h, \qquad
# w' = w\,e^{\delta_w}, \quad h' = h\,e^{\delta_h}$$
#
# A movement in units of the box itself: the same numbers serve a card and a ship.
#
# The box goes on **without its gradient**: each stage learns to improve what it is given. The
# feature keeps its gradient.
#
# Note: Assignment 1 writes these four formulas, and their way back.

# %% [markdown]
# ## When nobody talks (3)
#
# Self-attention off, in all stages: every card is found twice.
#
# Note: Attention is not there to see better. It is how proposals agree on who speaks. What makes
# them want to agree comes next.

# %%
silent = session.run(ablation=srl.Ablation(self_attention=False))
figures.trace_panels([session.base, silent], ["they talk", "they do not"], columns=2, width=10)

# %% [markdown]
# ## Who learns from which object? (4)
#
# $$C_{ij} = 2\, C^{cls}_{ij} + 5\, \lVert b_i - b_j \rVert_1 - 2\, \mathrm{GIoU}(b_i, b_j)$$
#
# Every object gets one proposal, so that the sum is as small as it can be.
#
# Note: Let the class find a cheaper assignment on the board before you show the framed one.

# %%
lessons.costs(shapes.trace(val[328]), stage=4).figure()

# %% [markdown]
# ## The set loss (4)
#
# $$\mathcal{L} = \frac{1}{K} \left( 2\, \mathcal{L}_{focal} + 5\, \mathcal{L}_{L1} +
# 2\, \mathcal{L}_{giou} \right)$$
#
# - matched: pay for class and box
# - all others: pay for every score they give
#
# Being right is not enough. You have to be **the one**.
#
# Note: This is what silences duplicates: of two proposals on one object, the unmatched is pushed
# down however well it fits. To know who is meant, they talk. Assignment 2.

# %% [markdown]
# ## Each kind of error has its time (7)
#
# First in place with the wrong name, then twice with the right one, then once.

# %%
figures.outcome_stages(analysis.object_outcomes(shapes, val, **quiet), width=10)

# %% [markdown]
# ## How many proposals, how many stages? (6)
#
# Two controls, no retraining.
#
# Note: Stages 1 to 4 buy nearly everything on images as simple as these; on COCO all six earn it.
# Assignment 4 lets students ask a question of their own about these two controls.

# %%
curve = analysis.ap_curve(shapes, val, n=[1, 3, 5, 10, 20], **quiet)
figures.ap_curves(curve, width=10)

# %% [markdown]
# ## What to take home
#
# - A hundred learned questions replace a hundred thousand anchors.
# - A proposal is a place and its filters; stages refine both.
# - Each object is matched with one proposal, so nothing has to be suppressed.
# - You can open it: every number of every stage is in a `Trace`.
#
# P. Sun et al., *Sparse R-CNN*, CVPR 2021, arXiv 2011.12450
