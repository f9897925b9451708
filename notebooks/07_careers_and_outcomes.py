# %% [markdown]
# # 7. Careers of proposals, outcomes of objects
#
# **Aim.** Go from one image to a data set: what does each proposal do in its life, and which
# stage is to blame for which error?
#
# **You will see** every proposal's career on one page, the busy ones and the idle, and read, stage
# by stage, what was found, improved and lost.
#
# **Needs** neither a GPU nor a network. About two minutes.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
val = srl.open_data("shapes", "val")
COUNT = lessons.pick(full=150, fast=3)
quiet = {"limit": COUNT, "cache": False, "progress": False}

# %% [markdown]
# ## Careers
#
# A proposal's career, in numbers its *statistics*: all that it detected, over many images.

# %%
statistics = analysis.proposal_statistics(detector, val, **quiet)
figures.proposal_overview(statistics)

# %% [markdown]
# Each square is the image; dots are detections, coloured by class, larger for larger boxes, and a ×
# is a wrong one. Territories again, as in lesson 2, now with a count. Two hardly ever win, 1 and 0:
# their boxes are the largest, and they are there for the case that only a few proposals look
# (lesson 6). In numbers:

# %%
busiest = statistics.proposals.sort_values("wins", ascending=False).head(6)
busiest[["proposal", "wins", "errors", "idle", "x", "y", "w", "h", "class", "class_share"]]

# %% [markdown]
# `idle` is the share of images in which a proposal detects nothing: **even the busiest does
# nothing most of the time**. With twenty questions and three objects it cannot be otherwise.
# `x` and `y` are the mean centre of its detections, `w` and `h` their median size, as shares of
# the image's sides. `class` is the class it wins most, `class_share` that class's share: from a
# quarter to 0.4. Chance alone gives the commonest of six classes more than a quarter of forty wins,
# and among twenty proposals one or two have more luck: over all 500 images these six shares are
# 0.19 to 0.28. **A proposal takes any class.** One of them, closely (the grey square is its learned
# box's size):

# %%
figures.proposal_page(statistics, busiest["proposal"].iloc[0])

# %% [markdown]
# DETR's queries look much the same (figure 7 of [arXiv
# 2005.12872](https://arxiv.org/abs/2005.12872)): set prediction seems to make specialists of
# *place and size* whatever the architecture.
#
# ## Outcomes
#
# Now the other way round: each **object**, and what became of it at the six stages. *Improved*
# means that its IoU rose by 0.05 or more since it was found, *worsened* that it fell by as much,
# *kept* neither of them. Or it was *duplicated*, *lost* again, or *missed* by all stages.

# %%
outcomes = analysis.object_outcomes(detector, val, **quiet)
outcomes.summary()

# %%
figures.outcome_stages(outcomes)

# %% [markdown]
# Left: stages 1 and 2 *find*, and stage 2 *improves* as well; the rest is polish. **Hardly anything
# is lost on the way**: refinement in this detector is nearly free of regret. Right: the errors, and
# each kind has its time. At stage 1 many boxes are in place and have the wrong name, or two names,
# each with a score of about a third: **it sees where before it knows what**. At stages 2 and 3
# names are right, and the largest kind are duplicates: several neighbours are now sure of the same
# object. Most of them go at stage 4; lesson 4 says what silences them. A few errors and a few
# missed objects are what stays.
#
# ## Where the stages disagree
#
# Averages hide the images worth looking at. Here are those on which the stages disagree most
# (`disagreement`: for each object the pairs of stages of which one finds it and one does not,
# and for each pair by how many wrong detections they differ):

# %%
worst = outcomes.images.head(4)
worst

# %%
figures.gallery(analysis.traces_of(detector, val, worst["image"]))

# %% [markdown]
# Green is right, dashed white is missed, other colours are errors of a kind. Follow one row
# from left to right: that is a detector changing its mind. In the end nearly all is right, and two
# small crosses were never seen. Then open the first image, at stage 1, and go on from there:

# %%
srl.explore(val[worst["image"].iloc[0]], detector, color="match", stage=1)

# %% [markdown]
# ## Exercises
#
# **1.** Is there a class that is missed more often than others? Look at the column `class` of
# `outcomes.objects[outcomes.objects.outcome == "missed"]`.
#
# <details><summary>Answer</summary>
#
# Eleven of the 23 are triangles, and one object in five is. Look at the images (column `image`)
# before you blame the class: twenty of the 23 are smaller than a fifth of the image's side, and
# of the other objects three in ten. Then ask other images: in `srl.Shapes(1500, seed=7)` 107 are
# missed, twenty of them triangles, about their share, and 32 crosses. Who looks at six classes and
# picks the worst will always find one. It takes new images to know.
# </details>

# %% [markdown]
# **2.** Remove the idlest proposal for good, `analysis.reordered(detector, ids)` with all other
# ids, and evaluate. What does it cost?
#
# <details><summary>Answer</summary>
#
# Less than a thousandth (0.879 to 0.878 on these 150): others do the work of proposal 0. Without
# the busiest, 4, it is 0.865. Idle is not useless, though: the first five proposals give 0.79 with
# 0 among them, and the first five without it, 1 to 5, give 0.74.
# </details>

# %% [markdown]
# **3.** Careers of the cards model: label a dozen photographs (lesson 8) and see whether its
# proposals specialise as strongly.

# %% [markdown]
# ## Read next
#
# [Lesson 8](08_your_own_photographs.ipynb): your own photographs. For reading errors in general:
# TIDE, [arXiv 2008.08115](https://arxiv.org/abs/2008.08115).
