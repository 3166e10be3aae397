"""Run models for real with torch: what a plan promises, measured."""

from moe2opt.executor.compare import predict as predict
from moe2opt.executor.folder import ModelFolder as ModelFolder
from moe2opt.executor.folder import open_folder as open_folder
from moe2opt.executor.routing_trace import profile_routing as profile_routing
from moe2opt.executor.run_job import execute_plan as execute_plan
