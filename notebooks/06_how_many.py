# %% [markdown]
# # 6. How many proposals, how many stages?
#
# **Aim.** Learn what a proposal and a stage cost and bring, and where the work can be saved.
#
# **You will see** what a few proposals can do that have practised alone, what happens when most of
# them are sent home after a look, and whether an image can say by itself that it is finished.
#
# **Needs** neither a GPU nor a network. About three minutes.

# %%
import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

detector = srl.load("nano-shapes")
train, val = srl.open_data("shapes", "train"), srl.open_data("shapes", "val")
COUNT = lessons.pick(full=100, fast=3)
quiet = {"limit": COUNT, "cache": False, "progress": False}

# %% [markdown]
# ## Two controls
#
# This detector has two controls that need no retraining: use only the first $n$ of its $N$
# proposals, and stop after stage $s$. In a plainly trained model the proposals have only ever
# worked together, so the first $n$ alone leave holes. `nano-shapes` was prepared for it: in every
# step of its training some numbers were drawn at random, and so many of its first proposals had to
# do the whole work as well, beside all twenty (*nested* training).
#
# So this model's order was learned. Could one find a better one afterwards? Let us **rank** the
# proposals on training images, by what each adds to those before it, and compare that with the
# model's own order and three random ones.

# %%
ranking = analysis.rank_proposals(detector, train, **quiet)
order = ranking["proposal"].tolist()
print("best first:", order)

# %%
numbers = lessons.pick(full=[1, 3, 5, 7, 10, 15, 20], fast=[1, 5, 20])
orders = {"own": None, "ranked": order, **analysis.random_orders(detector, 3)}
curve = analysis.ap_curve(detector, val, n=numbers, order=orders, **quiet)
figures.ap_curves(curve)

# %% [markdown]
# Left: AP after the last stage. Compare the orders where much was cut. A ranking covers the image
# first: it does not take two neighbours while a corner is empty, and chance may be far worse. Yet
# up to seven proposals the model's **own** order is better still, and from ten on they are level.
# For the ranking can only look at boxes that came out while all twenty worked. It puts proposal 0
# last, because the others leave it nothing to do. Alone, proposal 0 reaches AP 0.28, more than any
# other would: it is the only one that has ever worked alone. **What few can do is a matter of
# practice.**
#
# Right: AP against work, counted as proposals × stages, in the model's own order. **Stages 1 to 4
# buy nearly everything**; the last two have almost no effect on these simple images. (Work is
# counted, not timed: on small images a stage takes most of its time whatever the number of
# proposals, and a busy machine adds to that. The milliseconds are in `curve`, column `ms`.)
#
# The whole surface, to turn with the mouse:

# %%
own = curve[curve.order == "own"].pivot(index="stage", columns="n", values="AP")
lessons.surface(
    own.to_numpy().tolist(),
    own.columns.tolist(),
    own.index.tolist(),
    title="AP by proposals and stages",
    across="proposals",
    deep="stage",
    up="AP",
)

# %% [markdown]
# ## Pruning
#
# After stage 1 each proposal has a score. Why carry on those that see nothing? *Pruning* lets
# fewer and fewer through: "20 20 10 10 10 10" means that ten go home after stage 2. (Point at the
# head of a column, here and in other tables, and it says what it means: `ms` is milliseconds an
# image, `stages_ms` what of it the stages take, `stages_mb` their memory. Every such table is a
# pandas DataFrame.)

# %%
schedules = lessons.pick(full=None, fast=[(20,) * 6, (20, 20, 10, 10, 10, 10)])
pruned = analysis.proposal_pruning(detector, val, schedules=schedules, **quiet)
pruned

# %%
by_work = pruned.sort_values("work", ascending=False)
lessons.bars(
    {"AP": by_work["AP"].tolist()},
    [f"{row['schedule']}<br>{100 * row['work']:.0f} % of the work" for row in by_work.records()],
    title="Pruning: AP and work",
    detail="work: proposals × stages, of 20 × 6",
    across="proposals at each stage",
    up="AP (0 to 1)",
    top=1.0,
)

# %% [markdown]
# How far can you go down before AP bends? **Compare with the first control**: the first ten all the
# way cost about three points, the first seven six. Ten that were *chosen after a look at the
# image* cost about one or less, whether after one look, two or three; seven chosen after two
# looks cost two. After stage 1 AP is only 0.30: its scores say little about what is there, but
# enough about who sees something. Two cannot do it, of course: an image holds up to six shapes.
# Time falls less than work, and less evenly: with so few proposals much of a stage's time does not
# depend on their number.
#
# Early scores are not always so useful. An earlier shapes model ([the report](../docs/report.md)
# has it) was taught three proposals for each object at its first two stages. There the ten best
# after stage 2 were often several on one object, and cost five points.
#
# ## Early exit: stop when nothing moves
#
# The same thought for the stages: each image stops at the first stage that changed no box
# (1 - IoU) and no score by more than a *tolerance*. Easy images should stop early, hard ones
# late. Guess: is that better than the same stage for all?

# %%
exits = analysis.early_exit(detector, val, **quiet)
figures.trade_off(exits)

# %% [markdown]
# **It is not.** Images with one object do stop earlier than those with five (after 3.4 and 5.2
# stages at tolerance 0.2), and yet the round points lie on the line of the squares, at most 0.004
# beside it: stage 3 for all gives 0.838, settled at tolerance 0.5 takes 2.92 and gives 0.835. The
# rule has to run one more stage to see that nothing happens. And settled is not finished: at 0.3,
# 45 of the 100 stop at stage 3, with eleven duplicates in them and nine objects not found. Stage 6
# leaves two and four of these. **A clever rule has to beat the plain one.**
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
# Its first two, 9 and 2, are neighbours left of the middle (lesson 7 shows them): the second helps
# little once the first is there. Two proposals give 0.32 so, and 0.45 ranked as above, where one
# looks at the left and one at the top. `by="reach"` asks what each one *adds*. The last two by wins
# are 1 and 0: while smaller boxes are there they seldom win. They are the model's own first two,
# and give 0.48.
# </details>

# %% [markdown]
# **2.** The same training without nesting gives AP 0.89 with twenty proposals (here it is 0.88).
# Guess what the first five of that model give. And five well-ranked ones?
#
# <details><summary>Answer</summary>
#
# 0.44 and 0.46, in place of 0.79 here (500 images; [the models](../docs/models.md), [decision
# 9](../docs/decisions/0009-nested-proposals.md)). Five proposals that never had to work alone
# leave holes, however well they are chosen.
# </details>

# %% [markdown]
# **3.** Design a schedule for `small-cards` (fifty proposals, one to five cards an image). Stages
# 1 to 3 of it were taught 3, 3 and 2 proposals for each card.
#
# <details><summary>Answer</summary>
#
# Cut after stage 4: `(50, 50, 50, 50, 10, 10)` gives 0.82 in place of 0.83 (73 photographs). With
# `(50, 50, 20, 10, 10, 10)` it is 0.63: stages 1 to 3 find each card two or three times, as they
# were taught to, and only stage 4 sorts that out.
# </details>

# %% [markdown]
# ## Read next
#
# [Lesson 7](07_careers_and_outcomes.ipynb): who does the work, and who makes the errors.
