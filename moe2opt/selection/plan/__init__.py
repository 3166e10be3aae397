"""Plans: what is decoded from a solution, and how it is told."""

from moe2opt.selection.plan.model import GatedPlan as GatedPlan
from moe2opt.selection.plan.model import SelectionPlan as SelectionPlan
