# %% [markdown]
# # 6. How many proposals, how many stages?
#
# **Aim.** Learn what a proposal and a stage cost and bring, and where the work can be saved.
#
# **You will see** what well-chosen proposals do that arbitrary ones do not, what happens when most
# of them are sent home after a look, and whether a picture can say by itself that it is finished.
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
# $N$ proposals, and stop after stage $s$. The proposals of a plainly trained model are in no
# order, so cutting to the first $n$ is cutting blindly. `nano-shapes` was prepared for it: while
# it was trained, a random number of its proposals had to do the whole work beside all twenty
# (*nested* training), and then they were **ranked** on training pictures, by what each adds to
# those before it. Let us rank them again, on other pictures, and compare with three random orders.

# %%
ranking = analysis.rank_proposals(detector, train, **quiet)
order = ranking["proposal"]
print("best first:", order)

# %%
numbers = lessons.pick(full=[1, 3, 5, 7, 10, 15, 20], fast=[1, 5, 20])
orders = {"ranked": order, "as stored": None, **analysis.random_orders(detector, 3)}
curve = analysis.ap_curve(detector, val, n=numbers, order=orders, **quiet)
figures.dial_curves(curve)

# %% [markdown]
# Left: AP after the last stage. Compare the orders where much was cut. A ranking covers the picture
# first: it does not take two neighbours while a corner is empty. Chance may be far worse, and still
# does not do badly: **whoever is left has learned to do the work of those who are missing**. Right:
# AP against time. **Stages 1 to 4 buy nearly everything**, the last two are almost free of effect
# on these simple pictures. Times are measured on your machine: where something else runs beside, a
# line may even go back.
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
# fewer and fewer through: "20 20 10 10 10 10" means that ten go home after stage 2. (Point at the
# head of a column, here and in other tables, and it says what it means: `ms` is milliseconds a
# picture, `stages_ms` what of it the stages take, `stages_mb` their memory.)

# %%
schedules = lessons.pick(full=None, fast=[(20,) * 6, (20, 20, 10, 10, 10, 10)])
funnel = analysis.funnel(detector, val, schedules=schedules, **quiet)
funnel

# %%
by_work = funnel.sorted("work", descending=True)
lessons.bars(
    {"AP": by_work["AP"]},
    [f"{row['schedule']}<br>{100 * row['work']:.0f} % of the work" for row in by_work.rows()],
    title="Funnels: AP and work",
    detail="work: proposals × stages, of 20 × 6",
    across="proposals at each stage",
    up="AP (0 to 1)",
    top=1.0,
)

# %% [markdown]
# How far can you go down before AP bends? **Compare with the first dial**: ten well-ranked
# proposals all the way cost about four points; ten *chosen after three looks at the picture* cost
# hardly one. Chosen after two they cost four again: so early several proposals score high for one
# object (lesson 4), and the ten best by score are not the best ten. Time falls less than work, and
# less evenly: with so few proposals half of a stage's time does not depend on their number.
#
# ## Stop when nothing moves
#
# The same thought for the stages: each picture stops at the first stage that changed no box
# (1 - IoU) and no score by more than a *tolerance*. Easy pictures should stop early, hard ones
# late. Guess: is that better than the same stage for all?

# %%
stop = analysis.adaptive_stop(detector, val, **quiet)
figures.trade_off(stop)

# %% [markdown]
# **It is not.** Pictures with one object do stop earlier than those with five, and yet the round
# points never lie above the squares: four stages for all give 0.873, settled at tolerance 0.3 takes
# 4.65 and gives 0.862. The rule has to run one more stage to see that nothing happens. And
# stage 3 looks settled in twenty pictures that are full of duplicates, which stage 4 silences.
# **A clever rule has to beat the plain one.**
#
# On COCO, with people behind people, all six are earned: in the paper's ablation on the number of
# stages (section 4) AP about doubles from one stage to six.
#
# ## Exercises
#
# **1.** Rank by wins instead: `analysis.rank_proposals(detector, train, by="wins", **quiet)`. Why
# is that order worse at small $n$?
#
# <details><summary>Answer</summary>
#
# Its first two, 0 and 14, are neighbours at the upper right (lesson 7 shows them): the second helps
# little once the first is there. Two proposals give 0.30 so, and 0.44 ranked as above, where
# they lie in opposite corners. `by="reach"` asks what each one *adds*.
# </details>
#
# **2.** Before its nested training this model had AP 0.87 with twenty proposals, as now. Guess
# what five of them, in no particular order, gave then. And five well-ranked ones?
#
# <details><summary>Answer</summary>
#
# 0.44 and 0.59, in place of about 0.75 now ([the report](../docs/report.md), [decision
# 9](../docs/decisions/0009-nested-proposals.md)). Five proposals that never had to work alone
# leave holes, however well they are chosen.
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
