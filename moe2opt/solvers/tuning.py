"""Every tuned number of the engines, with what it trades and how it was chosen.

No number here decides whether a bound is valid or a solution feasible: other numbers give other
trees of other sizes. `Options.tuning` takes them to the engines, so that a test or a benchmark can
pass other ones. Where nothing is said of a measurement, none is on record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from moe2opt.solvers.tuning_choice import ChoiceTuning as ChoiceTuning


@dataclass(frozen=True, slots=True)
class TreeTuning:
    """Branch-reduce-and-bound in general, and the explanation of infeasibility."""

    write_s: float = 3e-6
    """Seconds set aside per record of a proof for writing it down: more ends a run earlier, less
    lets it overrun its time limit."""

    write_bytes: int = 100
    """The same for the memory limit."""

    open_nodes: int = 2**20
    """Open nodes from which on trees grow depth first, until half of them are left."""

    all_subsets: int = 10
    """Budget rows up to which all their subsets are tried (2**10 small problems) for the smallest
    clash; beyond, rows are dropped one at a time and it may not be the smallest."""

    relaxation_nodes: int = 1000
    """Nodes of each search for the least change of a clashing row, which is left out beyond."""


@dataclass(frozen=True, slots=True)
class FacilityTuning:
    """The facility engine: greedy plans, cheap nodes, cuts, and when to use which."""

    # ---- greedy plans and moves

    cover_nodes: int = 2000
    """Partial choices looked at before the search for a way to meet all covers is given up."""

    partners: int = 24
    """Experts considered as the two newcomers of a 1-2 swap; their pairs grow with the square."""

    block_entries: int = 2_000_000
    """Entries of the temporary arrays of a swap table: memory against calls of numpy."""

    kicks: int = 20
    """Kicks in a row without an improvement before the search for incumbents ends. Measured: 60
    made no tree smaller than 20 did, and cost a fifth of the time on small instances."""

    kick_time_share: float = 0.1
    """Share of the time limit that kicks may use."""

    # ---- the prepared problem

    rounded_rows: int = 40
    """Rounded rows at most: each makes the bound better and the LP slower."""

    focus: float = 0.8
    """Share of the experts below which the ranking of experts is rebuilt without those that the
    root excludes: every later node walks less, the rebuilding costs one node."""

    near: int = 96
    """Experts per cluster that cheap nodes see close together in memory; what they allow is a part
    of them. More sees more of large problems and fits less into the cache."""

    # ---- cheap nodes: subgradient steps

    few: int = 128
    """Free experts up to which whole columns are cheaper than copied entries. Measured with 10,000
    clusters: 0.09 ms against 0.09 ms a step at 50 experts, but the copy costs a few steps."""

    below: int = 4
    """How many experts below its first value a threshold may pass during one descent."""

    beyond: float = 0.03
    """Steps aim below the target by this share of the first distance: those that aim at the target
    itself come ever closer without crossing it."""

    shorter: float = 0.93
    """By how much a step without progress shortens the following ones. Measured on uniform
    200 x 1,000: 0.6 after four such steps left 1.3 to 1.7 times the gap in the same time."""

    shortest: float = 0.03
    """Share of the first length at which a descent ends."""

    share: float = 0.3
    """Share of the new subgradient in the direction; the rest is the last direction."""

    steps: int = 50
    """Subgradient steps per node: better bounds against more nodes."""

    length: float = 0.7
    """Length of the first step, as a share of the way that the subgradient promises."""

    gentlest: float = 0.3
    """The same at least, where the target is out of reach: long steps overshoot there."""

    trust: float = 8.0
    """How many times the fall that experience promises counts as within reach: a node nearer to the
    target begins with `length`, one further away more gently. Measured on uniform 200 x 1,000: 2
    left 0.92 times the gap after 2,000 nodes (seeds 0 and 2), but seed 1, which 8 proves in 6,277
    nodes and 4 in 8,181, was open after 9,000."""

    root_descents: int = 8
    """How often the first node descends at most. Measured: 1.02 to 1.7 times the gap of the LP in a
    third to a hundredth of its time."""

    gentler: float = 0.65
    """The factor by which each of these descents begins more gently than the last."""

    worthwhile: float = 0.05
    """Share of the gap that a descent of the root must close for one more."""

    # ---- the compiled node loop

    grown_cells: int = 5_000
    """Experts times clusters from which on cheap nodes grow in compiled code at once: it halves the
    time of short runs, but compiling it takes as long as all other kernels together, once."""

    grown_nodes: int = 256
    """Nodes after which they do so on smaller problems, where so many take a tenth of a second."""

    # ---- cheap nodes or the LP

    first_look: int = 20
    """Nodes of the first tree, which does without the LP, before its progress is judged; judged
    again each time their number has doubled."""

    least_progress: float = 0.03
    """Share of the open gap that must have closed between two looks for the tree to go on."""

    cheap_first: int = 100
    """Cheap nodes before the LP is tried."""

    trial: int = 4
    """Nodes of that trial."""

    node_work: int = 10
    """Work of the LP per node and cluster above which it counts as slow. Measured: 0.2-0.6 on the
    real catalogue, where it saves nine tenths of the tree; 20-1,400 on generated instances, where
    cheap nodes were 3 to 20 times faster."""

    stalled_work: int = 600
    """The same where cheap nodes have closed less than `stalled` of the gap: on p-median with many
    facilities (pmed14, 147 per node) they never did, while the LP needed nine nodes."""

    stalled: float = 0.05
    """See `stalled_work`."""

    # ---- cuts

    blocks_per_expert: int = 2
    """Blocks of clusters per expert that the budgets leave room for: more blocks make the cuts
    stronger and the LP larger. Measured: with 20 blocks pmed20 (133 experts) took seven times as
    long as with 150, and pmed16 (5 experts) was as fast with 20 as with 60."""

    least_blocks: int = 40
    """Blocks at least."""

    most_blocks: int = 400
    """Blocks at most."""

    root_rounds: int = 200
    """Rounds of cuts at the root at most."""

    node_rounds: int = 12
    """Rounds of cuts at any other node: a better bound against more nodes."""

    violation: float = 1e-7
    """A cut is added when it is violated by this fraction of its block's value."""

    outer: float = 0.5
    """Share of the LP's point in the point that the root's cuts are separated at (in-out
    separation); 1 is the LP's point itself, with about twice as many rounds."""

    enough: float = 0.3
    """Cuts separated there are enough for a round if they cut off this share of the blocks."""

    progress: float = 0.02
    """A node stops early once a round closes less than this fraction of its gap."""

    patience: int = 30
    """A cut that was slack this many solves in a row is dropped."""

    # ---- rounding

    round_every: int = 16
    """A cheap node is rounded to a solution once in so many."""

    first_nodes: int = 64
    """The first so many cheap nodes are rounded more often, and with exchanges, since an incumbent
    that is missing early costs most."""

    round_first: int = 2
    """How often these are: once in so many."""


@dataclass(frozen=True, slots=True)
class MonotoneTuning:
    """Relaxations of monotone problems, and their climbs."""

    rounds: int = 3
    """Rounds of tightening in one node, unless the last one has halved an edge: tightenings that
    feed each other would otherwise shave a wide box unit by unit."""

    batch: int = 4096
    """Points of one neighbourhood at most; larger ones are thinned out evenly."""

    exchanges: int = 20
    """Exchanges that the first climb is followed by."""

    fine_bits: int = 6
    """Ranges wider than two to this power are climbed in larger steps and split in the middle, the
    others at maximal points, which left seven times the gap on four ranges of a thousand."""

    parts: int = 4
    """Parts that a broken reverse row may be split into before anything else is split."""

    plane_steps: tuple[int, int] = (200, 20)
    """Steps of the parameters of parts at the root, and elsewhere, from where the parent ended."""


@dataclass(frozen=True, slots=True)
class PolyblockTuning:
    """The polyblock algorithm."""

    pool: int = 200
    """Infeasible points kept for re-use on other vertices: each saves up to one bisection per axis
    where it fits, and is compared with every vertex."""


@dataclass(frozen=True, slots=True)
class LinearTuning:
    """HiGHS on the strong formulation, and what is done before and after it."""

    small_facility: int = 200
    """Experts up to which the first plan is improved by swaps."""

    small_choice: int = 3000
    """Options up to which it is."""

    moves: int = 30
    """Moves of a first plan."""

    most_runs: int = 200
    """Runs of HiGHS at most, each after cutting off a solution that stretched a budget."""

    own_nodes: int = 20_000
    """Nodes of own branch and bound that a claim of HiGHS in doubt is worth."""

    poll_s: float = 0.02
    """Seconds between two looks at the limits while HiGHS or Pyomo works."""

    grace_s: float = 0.5
    """Seconds that HiGHS gets to stop before it is left to itself."""

    small: int = 1000
    """Columns below which HiGHS runs without its feasibility jump: it costs more than they do."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The tuned numbers of all engines."""

    tree: TreeTuning = TreeTuning()
    facility: FacilityTuning = FacilityTuning()
    choice: ChoiceTuning = field(default_factory=ChoiceTuning)
    monotone: MonotoneTuning = MonotoneTuning()
    polyblock: PolyblockTuning = PolyblockTuning()
    linear: LinearTuning = LinearTuning()


#: What the engines use unless told otherwise.
DEFAULT = Tuning()
