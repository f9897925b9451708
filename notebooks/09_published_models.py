# %% [markdown]
# # 9. The published models
#
# **Aim.** Use the models of the paper on everyday images, and know how to start from them.
#
# **You will see** a street through six stages of a model with 100 or 300 proposals and 80
# classes.
#
# **Needs** a network once, to download a model of 0.4 GB; no GPU. Without a network a shipped
# model stands in, and the lesson says so. Two minutes, and the download.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

lessons.table_of_models()

# %% [markdown]
# AP stands here as in papers, times 100: 37.9 is 0.379 in the other lessons. These are the five
# models that were published with the paper's method in
# [mmdetection](https://github.com/open-mmlab/mmdetection/tree/main/configs/sparse_rcnn). A name
# is enough: the file is fetched, compared with its checksum, converted without executing
# anything in it, and kept. After that no network is needed.

# %%
NAME = "r50_3x_100"
detector, is_published = lessons.load_published(NAME, instead="small-cards")
print(detector)

# %% [markdown]
# ## A street
#
# The image is from COCO's validation set, so none of these models was trained on it. (If a
# shipped model stands in, it looks at cards, and what is said of streets and whole-image boxes does
# not hold for it.)

# %%
image = lessons.example("street.jpg" if is_published else "cards_2.jpg")
trace = detector.trace(image)
figures.stage_grid(trace, threshold=0.4)

# %% [markdown]
# Compare with lesson 1. The learned boxes of these models were trained from whole-image boxes,
# for 12 or 36 epochs of 118,000 images; stage 1 already throws them far across the scene. How far
# have the learned boxes come from the whole image?

# %%
figures.learned_boxes(trace)

# %%
srl.explore(trace, threshold=0.4)

# %% [markdown]
# ## How many proposals does a street need?
#
# These models were not trained for fewer (lesson 6), so the first $n$ are no better than any $n$.

# %%
numbers = [n for n in (10, 25, 50, 100) if n <= detector.num_proposals]
found = [len(detector(image, num_proposals=n, threshold=0.4)) for n in numbers]
lessons.lines(
    {"detections": found},
    numbers,
    title="Detections on this image by the number of proposals",
    detail=f"{detector.name}, score of at least .40",
    across="proposals used",
    up="detections",
)

# %% [markdown]
# ## The same numbers as the others
#
# Is it really the same detector? Given the same weights, made by a fixed rule, every tensor of
# every stage agrees with mmdetection and with the authors' code: logits, boxes, matches, losses,
# gradients (`tests/core/test_parity.py`). On COCO itself, if you have it (1 GB, GPU advised):
#
# ```
# sparse-rcnn-lab evaluate --model r50_3x_300 --data coco
# ```
#
# prints AP beside the published one.
#
# ## Exercises
#
# **1.** Take a photograph of your desk: `srl.explore("desk.jpg", NAME)`. What does it see that
# you did not think of?

# %% [markdown]
# **2.** Which proposals find people? Collect `detector(p).proposals` over ten images. Do you
# find a "person proposal"?
#
# <details><summary>Answer</summary>
#
# Expect places and sizes again, as in lessons 2 and 7 and in figure 7 of DETR: large, central
# proposals see many people, because that is how people are photographed. To count:
# `analysis.proposal_statistics`.
# </details>

# %% [markdown]
# **3.** Fine-tune it on your images: `start_from=NAME` in place of the shipped model of
# lesson 8, with `srl.recipe(NAME, train__steps=500, ...)`. What else has to change?
#
# <details><summary>Answer</summary>
#
# Input size and patience: 800 px and ResNet-50 ask for a GPU. The learning rate of the recipe,
# 2.5e-5, is right for fine-tuning.
# </details>

# %% [markdown]
# ## Read next
#
# [docs/models.md](../docs/models.md): what was measured and what was not. And the
# [paper](https://arxiv.org/abs/2011.12450), which you can now read in an hour: figure 3 is
# lesson 3, equation 1 is lesson 4, the ablations are lessons 2 and 6.
