"""Sweeps: grids over configuration keys and scenarios, resumable, on one machine or a cluster."""

from moe2opt.sweep.checking import Checked as Checked
from moe2opt.sweep.checking import verify_sweep as verify_sweep
from moe2opt.sweep.driver import Sweep as Sweep
from moe2opt.sweep.driver import sweep as sweep
from moe2opt.sweep.spec import Spec as Spec
from moe2opt.sweep.spec import SweepFile as SweepFile
