# %% [markdown]
# # 8. Your own photographs
#
# **Aim.** From a folder of labelled photographs to a detector of your own, and an app around
# it.
#
# **You will see** that a few dozen photographs and a few minutes are enough for a start,
# because a model that knows cards already knows what it is to look for something.
#
# **Needs** neither a GPU nor a network. About four minutes on two cores; yours may take an
# hour.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons

folder = lessons.copy_of_boards("08-boards")
print(len(list((folder / "train").glob("*.jpg"))), "photographs to train on")
print(len(list((folder / "val").glob("*.jpg"))), "others to be graded on")

# %% [markdown]
# Fifty photographs of four kinds of circuit board (by Gilbert Tanner, MIT licence). Yours: 30
# to 100 images, as different in light, background and distance as those you want to use it
# on, and a fifth or more kept aside as `val` (here 14 of 50). **Never let two shots of one
# scene fall on both sides.**
#
# ## Label
#
# Draw a box around every object. [Label Studio](https://labelstud.io),
# [CVAT](https://www.cvat.ai) and [labelme](https://github.com/wkentaro/labelme) are free and
# run on your machine; the first two write COCO json directly, and then you can skip the next
# step. What such a tool writes, here in the format of Pascal VOC:

# %%
first = sorted((folder / "train").glob("*.xml"))[0]
print(first.read_text())

# %% [markdown]
# ## Convert
#
# This package reads **COCO json**: a file for each part, with `images`, `annotations` (`bbox`
# is left, top, width, height) and `categories`. Images lie in `images/`, or in a folder of the
# part's name, as here. [globox](https://github.com/laclouis5/globox)
# turns almost every format into it:

# %%
from globox import AnnotationSet

for part in ("train", "val"):
    labels = AnnotationSet.from_pascal_voc(folder / part)
    labels.save_coco(folder / f"{part}.json", auto_ids=True)
print(sorted(path.name for path in folder.glob("*.json")))

# %% [markdown]
# From YOLO it is `AnnotationSet.from_yolo_v5(labels_folder, image_folder=...)`; there are also
# `from_labelme`, `from_cvat`, `from_via_json` and others.
#
# ## Look before you train
#
# Most failed trainings are failed labels. Open the data and look at it with its boxes:

# %%
train, val = srl.open_data(folder, "train"), srl.open_data(folder, "val")
print(train)
print("classes:", ", ".join(train.class_names))
lessons.samples(train, count=8)

# %% [markdown]
# A wrong file name, an unknown class, a box outside its image: the reader says so, with the
# name of the file and what to do.
#
# ## Fine-tune
#
# We start from `small-cards`. Only the class heads are new: **backbone, proposals, attention
# and the box heads know their trade already**. Guess: what will be wrong more often at the end, the
# places or the names (exercise 3)?

# %%
STEPS = lessons.pick(full=120, fast=2)
SIDE = lessons.pick(full=224, fast=96)  # pixels; 320 is better and takes twice as long
recipe = srl.recipe(
    "small",
    train__steps=STEPS,
    train__warmup_steps=20,
    model__input__short_side=SIDE,
    model__input__long_side=SIDE,
    augment__size=(SIDE, SIDE),
)
with lessons.LiveTraining(steps=STEPS, val=val, watch=0) as live:
    run = srl.fit(
        folder,
        recipe,
        folder / "run",
        start_from=lessons.shipped("small-cards"),
        evaluate_every=STEPS // lessons.pick(full=4, fast=1),
        on_step=live.step,
        on_evaluation=live.evaluation,
        progress=False,
    )

# %%
live.images(threshold=0.3)

# %%
print(run.evaluation.table())

# %% [markdown]
# Two labels on one board are a duplicate (lesson 4): so few steps do not always silence it.
# **AP50** counts a box as right from an IoU of one half on; AP asks for precise ones too. Two
# minutes do not make a product, but it is visibly *your* detector. What helps, in this order:
# more steps (1,000), more images, 320 px.
#
# ## Use it

# %%
image = val[2]
srl.explore(image, run.detector, threshold=0.3)

# %% [markdown]
# In Python it is `srl.load(folder / "run")`. As an app with your webcam, in a terminal:

# %%
print(f'python apps/demo.py --checkpoint "{folder / "run"}"')

# %% [markdown]
# ## Exercises
#
# **1.** Train the same 120 steps without `start_from`. What is missing?
#
# <details><summary>Answer</summary>
#
# Nearly everything. From scratch, `small-cards` itself took 2,400 steps on 290 photographs, and a
# backbone that knew ImageNet. The start is worth hours.
# </details>
#
# **2.** Change a label to a class that exists once only, and train. What does the AP table say?
#
# <details><summary>Answer</summary>
#
# AP is the mean over classes: a class that is never found costs as much as a common one. Look
# at `run.evaluation.per_stage[-1].per_class`.
# </details>
#
# **3.** Count what is confused with what, as in lesson 7: `from sparse_rcnn_lab import analysis`,
# then `analysis.verdicts(run.detector, val).stages`.
#
# <details><summary>Answer</summary>
#
# Compare the kinds `class` (right place, wrong name) and `place`. At the first two stages wrong
# names lead by far (in our run 22 and 27, against 11 and 13): the names are new. At the last stage
# both are few (3 and 4), and most errors are objects `missed`: 9 of 22 have no box with a score
# of 0.3. More steps help there.
# </details>
#
# ## Read next
#
# [Lesson 9](09_published_models.ipynb): models that know eighty classes. Longer trainings,
# several GPUs: [docs/training.md](../docs/training.md).
