# %% [markdown]
# # 3. Inside a stage
#
# **Aim.** Follow one proposal through one stage, with the real tensors: it talks to the others,
# looks at its own part of the image through filters that it makes for itself, and decides.
#
# **You will see** that filters made for one image part are useless for another; that the
# whole trick is two matrix products, done by hand below; and what goes wrong when nobody talks.
#
# **Needs** neither a GPU nor a network. Under a minute.

# %%
import torch

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("small-cards")
image = lessons.example("cards_1.jpg")
RECORD = ("attention", "roi_features", "dynamic_filters", "filtered_features")
trace = detector.trace(image, record=RECORD)
chosen = int(trace.detections(threshold=0.5).proposals[0])  # the one that will find the nine

# %% [markdown]
# `StageWalk` runs one stage in slow motion and keeps every tensor. Stage 2 of this model, all
# fifty proposals:

# %%
walk = lessons.StageWalk(detector, image, stage=2)
walk

# %% [markdown]
# Read it from top to bottom: that is figure 3 of the [paper](https://arxiv.org/abs/2011.12450),
# and figure 4 is the part in the middle. Here $N = 50$ proposals, width $D = 112$, inner width
# $d = 16$, an **RoI** (region of interest: what lies in a box) of $P \times P = 7 \times 7$ cells.
# (The published models: 100 or 300, 256, 64, 7.) It is no simplification; the numbers are those of
# an ordinary run:

# %%
print("the same features:", torch.equal(walk.features_out, trace.features[2]))
print("the same logits:  ", torch.equal(walk.logits, trace.logits[1]))

# %% [markdown]
# ## Step 1. Talk: self-attention
#
# Each proposal asks all others (queries $Q$), offers something to be recognised by (keys $K$)
# and something to tell (values $V$). In each of 8 heads
#
# $$A = \mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{D/8}}\right), \qquad \text{told} = A V.$$
#
# By hand, for head 0:

# %%
q, k = walk.queries[0], walk.keys[0]  # [50, 14] each
by_hand = torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=-1)
print("as in the model:", torch.allclose(by_hand, walk.attention[0], atol=1e-6))

# %%
figures.attention_map(trace, chosen, stage=2)

# %% [markdown]
# Besides itself, it looks most at proposal 42, which sits **on the same card**, and hardly less at
# those on the other cards. The many that see nothing but table get little each. Nothing in this
# formula knows where a proposal is or what it sees: the *features* carry it by now.
#
# ## Step 2. Look: RoI pooling
#
# The **backbone**, an ordinary image network, has turned the image into maps at four
# resolutions, p2 (fine) to p5 (coarse): together the feature pyramid. A box of width $w$ and
# height $h$ reads from level
#
# $$\ell = 2 + \left\lfloor \log_2 \frac{\sqrt{w h}}{56} \right\rfloor, \qquad
# \text{kept within } 2 \dots 5,$$
#
# so that a large object is read from a coarse map. Inside the box lie 7 × 7 bins; each is the
# mean of four points.

# %%
figures.roi_grid(trace, chosen, stage=2)

# %% [markdown]
# The result is `walk.roi[chosen]`: 49 cells, each a vector of 112 numbers.
#
# ## Step 3. Interact: filters of one's own
#
# Now the idea that gives the paper its strength. In an ordinary network the next layer has weights
# that were learned and then stand still. Here, **the proposal's feature is turned into the
# weights** of two layers, made for this proposal, in this image, at this stage. With $x$ for the
# cells of its RoI and $q$ for its feature after step 1:
#
# $$F_1 \in \mathbb{R}^{D \times d}, \quad F_2 \in \mathbb{R}^{d \times D}, \qquad
# [F_1, F_2] = \mathrm{Linear}(q), \qquad
# x' = \mathrm{ReLU}(\mathrm{LN}(\mathrm{ReLU}(\mathrm{LN}(x F_1)) F_2)).$$
#
# Two matrix products (figure 4), each followed by a layer norm (LN: every cell's numbers are
# brought to mean 0 and spread 1). The first one by hand:

# %%
x = walk.roi[chosen]  # [49, 112]: what lies in the box
narrow = walk.norm_in(x @ walk.first[chosen]).relu()  # [49, 16]: what the proposal looks for
print("as in the model:", torch.allclose(narrow, walk.narrow[chosen], atol=1e-5))
print(
    "weights made for this one proposal:", walk.first[chosen].numel() + walk.second[chosen].numel()
)

# %%
figures.filter_effect(trace, chosen, stage=2)

# %% [markdown]
# Before, one pip in the middle stood out; after, the whole face of the card does. The filters keep
# what this proposal cares about. Then all 49 cells become one vector (`condensed`), which is
# added to the feature.
#
# ### Whose filters are they?
#
# Give every proposal the **average** of all filters, or **another's** (those of the proposal
# before it in number, wherever that one lies), in all six stages:

# %%
session = srl.Session(detector, image, record=RECORD)
average = session.run(ablation=srl.Ablation(filters="mean"))
another = session.run(ablation=srl.Ablation(filters="rolled"))
figures.trace_panels(
    [session.base, average, another],
    ["own filters", "the average of all", "another's"],
    columns=2,
    width=9,
)

# %% [markdown]
# With average filters the detector is blind, though every weight is still in place and every
# box still looks at its own card. With another's, one card of four is left. **A proposal is
# its filters**: here, at least. Where things are easier to tell apart they may matter less. With
# average filters the detector of drawn shapes keeps an AP of 0.55, of 0.89
# ([the report](../docs/report.md)).
#
# ## Step 4. Decide: two heads
#
# From the new feature, one small network gives 6 class logits and another 4 numbers
# $(\delta_x, \delta_y, \delta_w, \delta_h)$ that move the box relative to its own size:
#
# $$c_x' = c_x + \tfrac{\delta_x}{2} w, \quad c_y' = c_y + \tfrac{\delta_y}{2} h, \qquad
# w' = w\,e^{\delta_w}, \quad h' = h\,e^{\delta_h}.$$
#
# The boxes printed here are in pixels of the image as the model sees it, 320 wide. Times 1.4 they
# are pixels of the photograph, which is 448 wide.

# %%
x1, y1, x2, y2 = walk.boxes_in[chosen].tolist()
dx, dy, dw, dh = walk.deltas[chosen].tolist()
print(f"in:   {x1:6.1f} {y1:6.1f} {x2:6.1f} {y2:6.1f}")
print(f"says: {dx:+.2f} right, {dy:+.2f} down, {dw:+.2f} wider, {dh:+.2f} higher")
print("out: ", " ".join(f"{value:6.1f}" for value in walk.boxes_out[chosen].tolist()))

# %% [markdown]
# The box then goes on to the next stage **without its gradient**: each stage learns to improve
# the boxes it is given, not to please the ones after it. The feature keeps its gradient.
#
# ## When nobody talks
#
# Switch self-attention off in all stages. Guess what will happen, then look.

# %%
silent = session.run(ablation=srl.Ablation(self_attention=False))
figures.trace_panels([session.base, silent], ["they talk", "they do not"], columns=2, width=9)

# %% [markdown]
# The cards are still found, by **two proposals each** (a second label hangs where there was room:
# its colour says whose it is). Self-attention is not there to see better. It is how proposals agree
# on who speaks. In lesson 4 you will see what makes them want to agree.
#
# Try such **ablations** (a part is taken away, to see what it was good for) yourself, under *change
# something*: *self-attention*, *swap filters with*, *freeze features*. The tab *filters* shows what
# the filters of proposal 10 make of its box, stage by stage.

# %%
srl.explore(session, chosen=chosen, stage=2, tab="filters", roi=True)

# %% [markdown]
# ## Exercises
#
# **1.** Where do the weights of a stage live? Use the last column of the table.
#
# <details><summary>Answer</summary>
#
# Half of them in one matrix: condensing 49 × 112 numbers to 112 takes 615,000 weights. The
# layer that writes the filters has 405,000. All talking costs 51,000.
# </details>

# %% [markdown]
# **2.** Swap the filters of the proposals that find the nine and the king:
# `swapped = session.run(ablation=srl.Ablation(swap_filters=((10, 19),)))`. Do they swap cards?
#
# <details><summary>Answer</summary>
#
# `print(srl.trace_diff(session.base, swapped, threshold=0.5))`: no box moves by a pixel, since the
# box says where to look. But with the king's filters the nine is no longer recognised and falls
# below 0.5; the king is robust enough to survive those of the nine.
# </details>

# %% [markdown]
# **3.** `srl.Ablation(freeze_features=True)` gives every stage the learned features again, so a
# stage knows nothing of what the stages before have seen. What is left?
#
# <details><summary>Answer</summary>
#
# No detection at all. The feature is the memory of the proposal: a stage refines what the stage
# before knew. (The boxes are still handed on.)
# </details>

# %% [markdown]
# **4.** At which level of the pyramid is your proposal read at each stage? `trace.fpn_level[:,
# chosen]`.
#
# <details><summary>Answer</summary>
#
# At level 2, at all six stages. A card is about 70 px wide on the image as the model sees it (320
# px on its long side), and in the formula of step 2 only boxes of 112 px and more go to level 3.
# </details>

# %% [markdown]
# ## Read next
#
# [Lesson 4](04_matching_and_loss.ipynb): what the proposals are paid for. In the paper: section
# 3.2, "Dynamic instance interactive head".
