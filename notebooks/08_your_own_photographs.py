# %% [markdown]
# # 8. Your own photographs
#
# **Aim.** From photographs to a detector of your own: draw boxes, look, fine-tune, and hear
# what it is good and bad at.
#
# **You will see** that a few dozen photographs and a few minutes are enough for a start,
# because a model that knows twenty everyday things already knows what it is to look for
# something.
#
# **Needs** neither a GPU nor a network. About four minutes on two cores; yours may take an
# hour. The same without a line of code: the tab *Teach* of the app
# ([docs/teach.md](../docs/teach.md)).

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.training.teach.judgement import judge

folder = lessons.copy_of_boards("08-boards")
print(len(list((folder / "train").glob("*.jpg"))), "photographs to train on")
print(len(list((folder / "val").glob("*.jpg"))), "others to be graded on")

# %% [markdown]
# Fifty photographs of four kinds of circuit board (by Gilbert Tanner, MIT licence). Yours: 30
# to 100 images, as different in light, background and distance as those you want to use it
# on, and a fifth or more kept aside (here 14 of 50). **Never let two shots of one scene fall on
# both sides.**
#
# ## Label
#
# Draw a box around every object, and give it a name. Here that is done already, so that the
# lesson runs by itself; change some, and take it back with Ctrl Z. Where an image has no boxes yet,
# a model proposes some, dashed: a click accepts one. *Keys* below the image lists the rest.

# %%
labels = srl.label(folder, out=folder / "labelled")
labels

# %% [markdown]
# What is drawn is on disk at once, and the same line opens it again tomorrow. With photographs
# of yours it is `srl.label("my photographs", ["mug", "keys"])`.
#
# `label` reads COCO json and YOLO files, too, such as [Label Studio](https://labelstud.io) and
# [CVAT](https://www.cvat.ai) write, which suit teams. These boxes came from Pascal VOC files, like
# this one:

# %%
print(sorted((folder / "train").glob("*.xml"))[0].read_text())

# %% [markdown]
# ## Look before you train
#
# Most failed trainings are failed labels. `train` and `val` are data sets, the second one held
# out: the photographs in the folder `val`. Where a folder has none, whole moments are held out,
# so that no neighbour in time gives one away.

# %%
train, val = labels.train, labels.val
print(train)
print("classes:", ", ".join(train.class_names))
lessons.samples(train, count=8)

# %%
print(srl.check(train, val, images=False))

# %% [markdown]
# ## Fine-tune
#
# We start from `small-everyday`, which has never seen a circuit board. Only the class scores are
# new: **backbone, proposals, attention and the box heads know their trade already**. Of its six
# stages we take the first four, which in a few minutes learn more than all of them. Guess: what
# will be wrong more often at the end, the places or the names (exercise 3)?
#
# One-to-one matching (lesson 4) tells all but one of the proposals on a board that they are
# nothing. With little time that hides what tells the boards apart, so here each of them also learns
# *which* board it is on (`among_classes`), and nearly right scores count in full
# (`focal_gamma=0.0`).
# A board lies on the table in any direction, so half of the images are turned by quarters. And what
# a board is can be learned from smaller images as well, at 0.65 of the price: the first 60 % of the
# steps see 224 px in place of 320 (*progressive resizing*). Zooming in cuts boards off; where less
# than nine tenths of one are left, it is no example of a board, but of what is none
# (`min_visible`).

# %%
STEPS = lessons.pick(full=900, fast=2)
SIDE = lessons.pick(full=320, fast=96)  # pixels
recipe = srl.recipe(
    "small",
    model__num_stages=4,
    train__steps=STEPS,
    train__batch_size=2,  # many small steps are worth more here than few large ones
    train__lr=1e-3,
    train__warmup_steps=20,
    train__ema=0.97,  # what is kept is a moving average of the weights
    train__precision="auto",  # bf16 where the processor has units for it
    loss__focal_gamma=0.0,
    loss__among_classes=3.0,
    model__input__short_side=SIDE,
    model__input__long_side=SIDE,
    augment__size=(SIDE, SIDE),
    augment__turn=0.5,
    augment__min_visible=0.9,
    train__progressive_resizing=0.6,
)
with lessons.LiveTraining(steps=STEPS, val=val, watch=0) as live:
    run = srl.fit(
        train,
        recipe,
        folder / "run",
        val=val,
        start_from="small-everyday",
        threads=2,  # that share each batch
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
# **AP50** counts a box as right from an IoU of one half on; AP asks for precise ones too. In words:

# %%
print(judge(run.detector, val, train))

# %% [markdown]
# Two labels on one board are a duplicate (lesson 4): so few steps do not always silence it. Three
# minutes do not make a product, but it is visibly *your* detector. What helps, in this order:
# more images of what it misses, more steps (2,000).
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
# The whole of this lesson in one line, with a recipe chosen by the data:
# `sparse-rcnn-lab teach my-photographs`.
#
# ## Exercises
#
# **1.** Train as many steps without `start_from`. What is missing?
#
# <details><summary>Answer</summary>
#
# Nearly everything. From scratch, `small-cards` took 2,400 steps on 290 photographs, and a backbone
# that knew ImageNet. The start is worth hours.
# </details>

# %% [markdown]
# **2.** Give one board a class of its own in the labeller, and train. What does the AP table say?
#
# <details><summary>Answer</summary>
#
# AP is the mean over classes: a class that is never found costs as much as a common one. Look
# at `run.evaluation.per_stage[-1].per_class`.
# </details>

# %% [markdown]
# **3.** Count what is confused with what, as in lesson 7: `from sparse_rcnn_lab import analysis`,
# then `analysis.object_outcomes(run.detector, val).stages`.
#
# <details><summary>Answer</summary>
#
# Compare the kinds `class` (right place, wrong name) and `place`. At the first stages wrong names
# lead: the names are new. At the last stage both are few, and most errors are objects `missed`,
# which no box with a score of 0.3 is about. More steps help there.
# </details>

# %% [markdown]
# **4.** Label ten photographs of your own with `srl.label`, first with `model=None`, then with
# proposals. How many boxes a minute?

# %% [markdown]
# ## Read next
#
# [Lesson 9](09_published_models.ipynb): models that know eighty classes. Longer trainings,
# several GPUs: [docs/training.md](../docs/training.md).
