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
# Each square is the picture; dots are detections, coloured by class. Territories again, as in
# lesson 2, now with a count. Two hardly ever win: their boxes are large, and they are there for
# the case that only a few proposals look (lesson 6). In numbers:

# %%
careers.proposals.sorted("wins", descending=True).head(6)

# %% [markdown]
# `idle` is the share of pictures in which a proposal detects nothing: **even the busiest does
# nothing most of the time**. With twenty questions and three objects it cannot be otherwise.
# `class_share` near 1/6 means that a proposal takes any class. One of them, closely:

# %%
star = careers.proposals.sorted("wins", descending=True)["proposal"][0]
figures.career_page(careers, star)

# %% [markdown]
# DETR's queries look much the same (figure 7 of [arXiv
# 2005.12872](https://arxiv.org/abs/2005.12872)): set prediction makes specialists of *place and
# size* whatever the architecture.
#
# ## Verdicts
#
# Now the other way round: each **object**, and what the six stages did to it. Kept, improved,
# worsened, duplicated, lost or missed altogether.

# %%
verdicts = analysis.verdicts(detector, val, **quiet)
verdicts.summary()

# %%
figures.verdict_stages(verdicts)

# %% [markdown]
# Left: stage 1 *finds*, stage 2 *improves*, the rest is polish. **Hardly anything is lost on the
# way**: refinement in this detector is nearly free of regret. Right: the errors. Wrong classes
# are nearly gone after stage 2; duplicates melt away at stage 4, as lesson 4 explained. A few of
# them and a few missed objects are what stays.
#
# ## Where the stages disagree
#
# Averages hide the pictures worth looking at. Here are those on which the stages disagree most:

# %%
worst = verdicts.images.sorted("disagreement", descending=True).head(4)
worst

# %%
figures.gallery(analysis.traces_of(detector, val, worst["image"]))

# %% [markdown]
# Green is right, dashed white is missed, other colours are errors of a kind. Follow one row
# from left to right: that is a detector changing its mind. Then open the worst one and look
# closer:

# %%
srl.explore(val[worst["image"][0]], detector, color="match")

# %% [markdown]
# ## Exercises
#
# **1.** Is there a class that is missed more often than others? Look at the column `class` of
# `verdicts.objects.where(verdict="missed")`.
#
# <details><summary>Answer</summary>
#
# No: a handful of objects, of nearly every class. Look at the pictures (column `image`): they are
# hidden, tiny or cut off by the border, not of a difficult kind.
# </details>
#
# **2.** Remove the idlest proposal for good, `analysis.reordered(detector, ids)` with all other
# ids, and evaluate. What does it cost?
#
# <details><summary>Answer</summary>
#
# Nothing, to a thousandth: its neighbours do its work. Idle is not useless, though: such boxes
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
