# %% [markdown]
# # 6. How many proposals, how many stages?
#
# **Aim.** Learn what a proposal and a stage cost and bring, and where the work can be saved.
#
# **You will see** what well-chosen proposals do that arbitrary ones do not, what happens when most
# of them are sent home after a look, and how a picture can say by itself that it is finished.
#
# **Needs** neither a GPU nor a network. About three minutes.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis, lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
train, val = srl.open_data("shapes", "train"), srl.open_data("shapes", "val")
COUNT = lessons.pick(full=100, fast=6)
quiet = {"limit": COUNT, "cache": False, "progress": False}

# %% [markdown]
# ## Two dials
#
# This detector has two dials that no retraining is needed for: use only the first $n$ of its
# $N$ proposals, and stop after stage $s$. The proposals of a trained model are in no order, so
# cutting to the first $n$ is cutting blindly. Better: **rank** them, on training pictures, by
# what each adds to those before it.

# %%
ranking = analysis.rank_proposals(detector, train, **quiet)
order = ranking["proposal"]
print("best first:", order)

# %%
numbers = lessons.pick(full=[1, 3, 5, 8, 12, 16, 20], fast=[1, 5, 20])
curve = analysis.ap_curve(
    detector, val, n=numbers, order={"ranked": order, "as trained": None}, **quiet
)
figures.dial_curves(curve)

# %% [markdown]
# Left: AP after the last stage. Compare the orders where much was cut. A greedy choice covers
# the picture first: it does not take two neighbours while a corner is empty. Right: AP against
# time. **Stages 1 to 4 buy nearly everything**, the last two
# are almost free of effect on these simple pictures.
#
# The whole surface, to turn with the mouse:

# %%
ranked = curve.where(order="ranked")
stages = sorted(set(ranked["stage"]))
lessons.surface(
    [[ranked.where(n=n, stage=stage)["AP"][0] for n in numbers] for stage in stages],
    numbers,
    stages,
    title="AP by proposals and stages",
    across="proposals",
    deep="stage",
    up="AP",
)

# %% [markdown]
# ## A funnel
#
# After stage 1 each proposal has a score. Why carry on those that see nothing? A *funnel* lets
# fewer and fewer through: "20 20 10 10 10 10" means that ten go home after stage 2.

# %%
schedules = lessons.pick(full=None, fast=[(20,) * 6, (20, 20, 10, 10, 10, 10)])
funnel = analysis.funnel(detector, val, schedules=schedules, **quiet)
funnel

# %%
lessons.lines(
    {"AP": [row["AP"] for row in funnel.sorted("work").rows()]},
    [f"{100 * work:.0f} %" for work in funnel.sorted("work")["work"]],
    title="A funnel: AP against work",
    detail="work: proposals × stages, of 20 × 6",
    across="work",
    up="AP (0 to 1)",
    top=1.0,
)

# %% [markdown]
# How far can you go down before AP bends? **Compare with the first dial**: ten proposals all
# the way
# lose far more than ten proposals *chosen after a look at the picture*. Which proposals are
# needed is a property of the picture, and after one or two stages the model knows.
#
# ## Stop when nothing moves
#
# The same thought for the stages: stop at the stage that changed next to nothing. Easy pictures
# stop early, hard ones use all six.

# %%
stop = analysis.adaptive_stop(detector, val, **quiet)
figures.trade_off(stop)

# %% [markdown]
# The rule "until settled" spends stages where they are needed. On COCO, with people behind
# people, all six are earned: in the paper's ablation on the number of stages (section 4) AP
# about doubles from one stage to six.
#
# ## Exercises
#
# **1.** Rank by wins instead: `analysis.rank_proposals(..., by="wins")`. Why is that order
# worse at small $n$?
#
# <details><summary>Answer</summary>
#
# Proposals that win most sit side by side in the middle, where most objects are. The second
# best helps little once the best is there. `by="reach"` asks what each one *adds*.
# </details>
#
# **2.** How well does chance do? Add `**analysis.random_orders(detector, 3)` to the orders.
#
# <details><summary>Answer</summary>
#
# Like "as trained", a little up and down: a trained model's own order means nothing.
# </details>
#
# **3.** Design a funnel of your own for `small-cards` (fifty proposals, four cards a picture).
#
# <details><summary>Answer</summary>
#
# Try `(50, 50, 20, 10, 10, 10)`. Cut after stage 2 or later: before that, scores say little.
# </details>
#
# ## Read next
#
# [Lesson 7](07_careers_and_verdicts.ipynb): who does the work, and who makes the errors.
