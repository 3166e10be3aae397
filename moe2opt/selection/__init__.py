"""Question 1: which LLM experts to deploy, where and how precise, and who answers what."""

from moe2opt.selection.catalogue import Expert as Expert
from moe2opt.selection.outcomes.derive import derive_tables as derive_tables
from moe2opt.selection.outcomes.own_files import derive_from_files as derive_from_files
from moe2opt.selection.outcomes.tables import ClusterTables as ClusterTables
from moe2opt.selection.outcomes.tables import read_tables as read_tables
from moe2opt.selection.outcomes.tables import write_tables as write_tables
from moe2opt.selection.plan import SelectionPlan as SelectionPlan
from moe2opt.selection.question import SelectionInstance as SelectionInstance
from moe2opt.selection.question import build as build
from moe2opt.selection.sections import SelectionConfig as SelectionConfig
