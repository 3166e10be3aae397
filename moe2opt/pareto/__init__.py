"""Exact trade-off curves: fronts over one budget, grids over several, every point certified."""

from moe2opt.pareto.cells import grid as grid
from moe2opt.pareto.checking import save_results as save_results
from moe2opt.pareto.checking import verify as verify
from moe2opt.pareto.checking import with_results as with_results
from moe2opt.pareto.model import Front as Front
from moe2opt.pareto.model import Grid as Grid
from moe2opt.pareto.points import Axis as Axis
from moe2opt.pareto.points import Cell as Cell
from moe2opt.pareto.points import FrontPoint as FrontPoint
from moe2opt.pareto.ranges import Stability as Stability
from moe2opt.pareto.ranges import stability as stability
from moe2opt.pareto.sampling import pareto as pareto
from moe2opt.pareto.three import Surface as Surface
from moe2opt.pareto.three import surface as surface
