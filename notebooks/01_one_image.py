# %% [markdown]
# # 1. One image, six stages
#
# **Aim.** See what Sparse R-CNN does before you know how it does it: a handful of boxes that
# are the same for every image walks, in six steps, to the objects of this one.
#
# **You will see** fifty boxes move to a motorbike and its rider; how they make up their minds; and
# what happens on an image that has nothing to find.
#
# **Needs** neither a GPU nor a network. Under a minute.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures, plotly_figures

detector = srl.load("small-everyday")  # ships with the package: twenty kinds of everyday things
image = lessons.example("everyday_4.jpg")
found = detector(image, threshold=0.5)
print(found)

# %% [markdown]
# A detection is a **box** (left, top, right, bottom in pixels), a **class** and a **score**
# from 0 to 1. That is all a detector returns. Most detectors get there by scoring tens of
# thousands of boxes that tile the image and then throwing nearly all of them away. This one
# never had more than fifty. Watch them. Then click a box to choose it: its card shows its score at
# each stage. The arrow keys go from stage to stage, space plays.

# %%
srl.explore(image, detector, threshold=0.5)

# %% [markdown]
# Can you lead a box astray? With a box chosen, press Home (at the end, where playing stops, no
# stage is left to run) and drag one of its corners: the stages run again with your box.
#
# ## The recording behind it
#
# Everything you can see here is one object, a `Trace`. It holds every proposal at every stage.

# %%
trace = detector.trace(image)
print("boxes   ", list(trace.boxes.shape), "states 0..6, proposals, left top right bottom")
print("logits  ", list(trace.logits.shape), "stages 1..6, proposals, classes")
print("features", list(trace.features.shape), "states, proposals, width of a feature")

# %% [markdown]
# State 0 is the **learned proposals**: $N = 50$ boxes and as many feature vectors, weights of the
# network like any others. (A **feature** is what a proposal knows, as a vector.) Stage $s$ takes
# boxes $b_{s-1}$ and features $q_{s-1}$ and makes both better:
#
# $$b_s,\ q_s = \mathrm{stage}_s(\text{image},\ b_{s-1},\ q_{s-1}), \qquad s = 1 \dots 6$$
#
# (figure 3 of the [paper](https://arxiv.org/abs/2011.12450)). All of it in one figure:

# %%
figures.stage_grid(trace, threshold=0.5)

# %% [markdown]
# ## When does it make up its mind?
#
# Each stage also gives a class and a score, so we can ask each of them for its detections.

# %%
for stage in range(1, 7):
    at_stage = trace.detections(stage, threshold=0.5)
    print(f"stage {stage}: {len(at_stage)} found: {', '.join(at_stage.names())}")

# %%
plotly_figures.score_curves(trace, threshold=0.5)

# %% [markdown]
# The motorbike is there after one stage. The rider has a score of 0.13 then, of 0.75 after the
# third stage, and of 0.98 at the end: every stage looks again, from where the one before has put
# the box. About a dozen boxes end on each of the two, yet all but one keep silent (with scores
# below 0.01), and **nobody has to clean up afterwards**: there is no non-maximum suppression in
# this detector. How proposals agree on who speaks is the best part of the story; lessons 3 and 4
# tell it.
#
# ## An image with nothing to find
#
# Where do the fifty boxes go when there is nothing that the model knows? These are blood cells.

# %%
cells = detector.trace(lessons.example("cells_1.jpg"))
print("detections:", len(cells.detections(threshold=0.5)))
figures.stage_grid(cells, threshold=0.5, layout="strip")

# %% [markdown]
# The leftmost panel is the same as before: the boxes start at the same (relative) places,
# whatever the image. They move, look, and end with scores near 0, drawn so faintly that they
# nearly vanish. **The proposals are not found in the image. They are fifty questions, asked of
# every image.**
#
# ## Exercises
#
# Choose an exercise and press B: you get a cell below it to try it in.
#
# **1.** Which proposal found the person, and how far did the middle of its box travel?
# `found.proposals` and `trace.boxes` tell.
#
# <details><summary>Answer</summary>
#
# ```python
# person = found.names().index("person")
# proposal = int(found.proposals[person])
# middles = (trace.boxes[:, proposal, :2] + trace.boxes[:, proposal, 2:]) / 2
# print(proposal, float((middles[-1] - middles[0]).norm()))
# figures.box_trails(trace, proposal)
# ```
# Proposal 1, and its middle travelled 90 pixels; the image is 512 high. Nearly all of that way was
# stage 1. Most proposals work close to where they start; lesson 2 shows that on many images.
# </details>

# %% [markdown]
# **2.** Playing cards are harder to tell apart. `cards = srl.load("small-cards")`, and then
# `cards(lessons.example("cards_1.jpg"), stage=3, threshold=0.5)` stops after stage 3. What is wrong
# with its detections, the boxes or the number of them?
#
# <details><summary>Answer</summary>
#
# The number: nine for four cards. The boxes are close already. In the order of learning,
# *where* comes first, then *what*, and last *which of us says it*.
# </details>

# %% [markdown]
# **3.** Use only the first three proposals: `detector(image, num_proposals=3, threshold=0.5)`. Then
# do the same with the cards. Why does one model cope, and the other not?
#
# <details><summary>Answer</summary>
#
# `small-everyday` was trained so that its first three can do the work alone, or its first ten, or
# any number. The first three of the cards' model are an arbitrary three of fifty, and most of the
# image is then nobody's. Lesson 6 is about that.
# </details>

# %% [markdown]
# **4.** Give the path of a photograph of your own to `srl.explore`.

# %% [markdown]
# ## Read next
#
# [Lesson 2](02_proposals.ipynb): what is inside a learned proposal. In the paper: section 3 up
# to "Learnable proposal box".
