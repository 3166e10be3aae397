"""Measured tables of devices and a documented roofline fitted to them.

The roofline is a stand-in with known, reported residuals: see `moe2opt.profiles.roofline`.
"""

from moe2opt.profiles.roofline import Fit as Fit
from moe2opt.profiles.roofline import Roofline as Roofline
from moe2opt.profiles.roofline import Stream as Stream
from moe2opt.profiles.roofline import fit_roofline as fit_roofline
from moe2opt.profiles.tables import Profiles as Profiles
from moe2opt.profiles.tables import builtin_profiles as builtin_profiles
from moe2opt.profiles.tables import read_profiles as read_profiles
