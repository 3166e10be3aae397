"""Run models for real with torch: what a plan promises, measured."""

from moe2opt.executor.compare.compare import predict as predict
from moe2opt.executor.job import execute_plan as execute_plan
from moe2opt.executor.model.folder import ModelFolder as ModelFolder
from moe2opt.executor.model.folder import open_folder as open_folder
from moe2opt.executor.model.routing import profile_routing as profile_routing
