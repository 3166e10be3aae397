"""Fleets: thousands of sites with problems of their own under one shared budget."""

from moe2opt.fleet.answer import FleetResult as FleetResult
from moe2opt.fleet.checking import save_fleet as save_fleet
from moe2opt.fleet.checking import verify_fleet as verify_fleet
from moe2opt.fleet.driver import solve_fleet as solve_fleet
from moe2opt.fleet.sections import FleetFile as FleetFile
from moe2opt.fleet.sites import Fleet as Fleet
from moe2opt.fleet.sites import Site as Site
from moe2opt.fleet.sites import load_fleet as load_fleet
