"""The second question: where the experts of one mixture-of-experts model live, and in which form.

`PlacementConfig` describes an instance in YAML, `build` reads its tables, `PlacementInstance`
compiles to a multiple-choice problem and decodes solutions to a `PlacementPlan`.
"""

from moe2opt.placement.assignment import Assignment as Assignment
from moe2opt.placement.figures import Figures as Figures
from moe2opt.placement.machine.topology import Topology as Topology
from moe2opt.placement.model.shape import ModelShape as ModelShape
from moe2opt.placement.plan import PlacementPlan as PlacementPlan
from moe2opt.placement.question import PlacementInstance as PlacementInstance
from moe2opt.placement.question import build as build
from moe2opt.placement.sections import PlacementConfig as PlacementConfig
