# %% [markdown]
# # 7. Careers and verdicts
#
# **Aim.** Go from one picture to a data set: what does each proposal do in its life, and which
# stage is to blame for which error?
#
# **You will see** every proposal's career on one page, the busy ones and the idle, and read, stage
# by stage, what was found, improved and lost.
#
# **Needs** neither a GPU nor a network. About two minutes.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis, lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
val = srl.open_data("shapes", "val")
COUNT = lessons.pick(full=150, fast=6)
quiet = {"limit": COUNT, "cache": False, "progress": False}

# %% [markdown]
# ## Careers
#
# A proposal's career: all that it detected, over many pictures.

# %%
careers = analysis.careers(detector, val, **quiet)
figures.career_overview(careers)

# %% [markdown]
# Each square is the picture; dots are detections, coloured by class, larger for larger boxes, and
# a × is a wrong one. Territories again, as in
# lesson 2, now with a count. Two hardly ever win: their boxes are large, and they are there for
# the case that only a few proposals look (lesson 6). In numbers:

# %%
busiest = careers.proposals.sorted("wins", descending=True).head(6)
busiest.select("proposal", "wins", "errors", "idle", "x", "y", "w", "h", "class", "class_share")

# %% [markdown]
# `idle` is the share of pictures in which a proposal detects nothing: **even the busiest does
# nothing most of the time**. With twenty questions and three objects it cannot be otherwise.
# `x` and `y` are the mean centre of its detections, `w` and `h` their median size, in
# sides of the picture. `class` is the class it wins most, `class_share` that class's share: about
# a quarter, which is what chance gives the commonest of six classes in forty wins. **A
# proposal takes any class.** One of them, closely (the grey square is its learned box's size):

# %%
figures.career_page(careers, busiest["proposal"][0])

# %% [markdown]
# DETR's queries look much the same (figure 7 of [arXiv
# 2005.12872](https://arxiv.org/abs/2005.12872)): set prediction makes specialists of *place and
# size* whatever the architecture.
#
# ## Verdicts
#
# Now the other way round: each **object**, and what the six stages did to it. Improved means
# that its IoU rose by 0.05 or more since it was found, worsened that it fell so far, kept
# neither; or it was duplicated, lost, or missed by all stages.

# %%
verdicts = analysis.verdicts(detector, val, **quiet)
verdicts.summary()

# %%
figures.verdict_stages(verdicts)

# %% [markdown]
# Left: stage 1 *finds*, stage 2 *improves*, the rest is polish. **Hardly anything is lost on the
# way**: refinement in this detector is nearly free of regret. Right: the errors. Wrong classes
# are nearly gone after stage 3; duplicates melt away at stage 4, as lesson 4 explained. A few of
# them and a few missed objects are what stays.
#
# ## Where the stages disagree
#
# Averages hide the pictures worth looking at. Here are those on which the stages disagree most
# (`disagreement`: for each object the pairs of stages of which one finds it and one does not,
# and for each pair by how many wrong detections they differ):

# %%
worst = verdicts.images.sorted("disagreement", descending=True).head(4)
worst

# %%
figures.gallery(analysis.traces_of(detector, val, worst["image"]))

# %% [markdown]
# Green is right, dashed white is missed, other colours are errors of a kind. Follow one row
# from left to right: that is a detector changing its mind. In the end nearly all is right. Then
# open the first one, at stage 1, and go on from there:

# %%
srl.explore(val[worst["image"][0]], detector, color="match", stage=1)

# %% [markdown]
# ## Exercises
#
# **1.** Is there a class that is missed more often than others? Look at the column `class` of
# `verdicts.objects.where(verdict="missed")`.
#
# <details><summary>Answer</summary>
#
# Six of the thirteen are triangles, and one object in five is. Look at the pictures (column
# `image`) before you blame the class: nearly all thirteen are small and touch another shape, lie in
# one, or are cut off by the border, the triangles too. Thirteen are too few to tell the two apart.
# </details>
#
# **2.** Remove the idlest proposal for good, `analysis.reordered(detector, ids)` with all other
# ids, and evaluate. What does it cost?
#
# <details><summary>Answer</summary>
#
# About a thousandth (0.871 to 0.870): others do its work. Idle is not useless, though: such boxes
# are what a detector of very few proposals needs.
# </details>
#
# **3.** Careers of the cards model: label a dozen photographs (lesson 8) and see whether its
# proposals specialise as strongly.
#
# ## Read next
#
# [Lesson 8](08_your_own_photographs.ipynb): your own pictures. For reading errors in general:
# TIDE, [arXiv 2008.08115](https://arxiv.org/abs/2008.08115).
