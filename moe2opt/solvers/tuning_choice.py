"""The tuned numbers of the multiple-choice engine; see `moe2opt.solvers.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChoiceTuning:
    """The multiple-choice engine: greedy plans, root, dives, polishing, the core."""

    # ---- greedy plans and moves

    repricings: int = 30
    """Attempts to find a light start by pricing the budgets anew."""

    partners: int = 150
    """Options considered on each side of a pair swap; their pairs grow with the square."""

    look_every: int = 256
    """Upgrades between two looks at the limits."""

    # ---- which relaxation, and its root

    core_options: int = 72
    """From this many options on, compiled kernels are worth the time that their first use costs. On
    assignments of 75 to 125 options they took a tenth of what an LP in every node does."""

    most_rows: int = 40
    """With more budgets than this the dual is left to an LP solver: a vertex costs their cube."""

    small: int = 3000
    """Up to this many options, swaps over the whole problem are cheap."""

    sample: int = 400
    """Groups sampled for the first prices of a large problem."""

    reprice_steps: int = 1000
    """Vertices of one descent when a compiled problem is solved again with other coefficients."""

    # ---- dives for incumbents

    dive_options: tuple[int, ...] = (400, 2000)
    """Options besides one per group that dives for incumbents in a large problem keep."""

    dive_nodes: int = 300
    """Nodes of a dive."""

    # ---- polishing: combinations of few moves

    moves: int = 400
    """Moves of least regret that are combined."""

    beam: int = 400
    """Combinations that are carried on; time grows with `moves` times this."""

    depth: int = 6
    """Moves in a combination at most."""

    alike: float = 0.02
    """Combinations whose priced use agrees to this share of the gap count as alike."""

    failures: int = 6
    """Searches without success, each among other moves, before polishing and filling end."""

    # ---- walks with a short memory, where trees do not end soon

    walk_nodes: int = 60
    """Nodes of the core before the first walk; then one each time their number has doubled."""

    walk_least: int = 3000
    """Moves of a walk at least."""

    walk_moves: int = 10
    """Moves of a walk per node so far, a fifth of the time or less."""

    walk_shares: tuple[float, ...] = (0.15, 0.3)
    """Shares of the gap: options of more regret stay out of a walk. One is drawn for each."""

    walk_options: tuple[int, int] = (100, 3000)
    """Options of least regret, besides one per group, that a walk knows at least and at most."""

    walk_pull: float = 0.9
    """Share of the root's prices that a gain is reduced by. With 0 and with 1 walks found nothing
    on knapsacks of 30 rows, with 0.8 and 0.9 they came within 0.3 % of the best known."""

    # ---- filling budgets whose costs are multiples of a unit

    sizes: int = 64
    """Different sizes of a row at most; so, too, where rounded rows are looked for."""

    multiples: int = 5000
    """Multiples of the unit in the largest size at most."""

    per_size: int = 10
    """Moves of each size that the dynamic programme may take."""

    paired: int = 300
    """Moves of each size that are paired."""

    window: int = 6
    """The dynamic programme looks this many times the largest move around nothing and around what
    is left."""

    away: int = 20
    """What is left may be this many times the largest move away."""

    flags: int = 2**24
    """Flags that the dynamic programme keeps at most, a byte each."""

    lattice_rows: int = 4
    """Rows that are filled so at most."""

    orders: int = 6
    """Orders of these rows that are tried."""

    pairs: int = 12
    """Pairs of moves that are taken one after the other for the other rows."""

    clashes: int = 20
    """Repetitions without moves that would change one group twice."""

    part: float = 0.6
    """Share of the moves that each repeated search looks at."""

    # ---- counts in classes of equal groups

    sharing: float = 4.0
    """Groups per class of equal ones from which on counting pays."""

    counted_options: int = 64
    """Options of all classes up to which counting pays. Measured on the built-in placements: ahead
    of the core at 4-40 options, level or behind at 48-1,500."""

    ordered_options: int = 30
    """Options of one group from which on its halves are worth the LP of every node."""

    ordered_share: float = 0.25
    """Share of all options that such a group has at least."""

    rounded_rows: int = 60
    """Rounded rows at most: each makes the bound better and the LP slower."""

    rounded_rounds: int = 12
    """Rounds in which they are looked for."""

    rounded_options: int = 1000
    """Options from which on rounded rows are tried in the core. Smaller problems end before they
    pay: generalised assignments took 10-60 % longer."""

    core_rounded: int = 6
    """Rounded rows of a core at most, where the cost of a vertex grows with their cube."""

    rounded_share: float = 0.25
    """Share of the gap that they must close at the root of a core to stay."""

    capacities: int = 4
    """Multiples of a row's capacity that may be cut into whole options."""

    # ---- branch and bound in the core

    pause_s: float = 0.05
    """Seconds of compiled search between two looks at the limits, about."""

    shrink: float = 0.75
    """The core is cut down again when an incumbent would leave at most this share of it."""

    costly_nodes: int = 2000
    """It is not once so many nodes of work would be lost."""

    small_core: int = 3000
    """Above this many options, branching looks at fractions only, not at how far the bound falls
    on either side, which costs two walks along the dual per candidate."""

    often: int = 300
    """Up to this many options every node fixes what its bound rules out; beyond, only nodes whose
    gap has shrunk, since fixings that rule out little would fill the memory with records."""

    write_s: float = 2e-7
    """Seconds set aside per record of a core's proof, see `TreeTuning.write_s`."""

    write_bytes: int = 64
    """The same for the memory limit."""
