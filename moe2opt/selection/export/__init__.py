"""From a selection to what an operator runs: proxy configuration, launch commands, router."""

from moe2opt.selection.export.dispatch import Dispatcher as Dispatcher
from moe2opt.selection.export.litellm_files import Deployment as Deployment
from moe2opt.selection.export.litellm_files import check_serving as check_serving
from moe2opt.selection.export.litellm_files import deployments as deployments
from moe2opt.selection.export.litellm_files import litellm_files as litellm_files
from moe2opt.selection.export.routing_table import RoutingTable as RoutingTable
from moe2opt.selection.export.routing_table import table_of as table_of
from moe2opt.selection.export.routing_table import table_of_plan as table_of_plan
from moe2opt.selection.export.routing_table import within_sets as within_sets
