"""From a model file and a machine to a command line that fits: the question ``place``.

Which device holds which layers, and which experts stay in RAM, so that llama.cpp is as fast as any
of its command lines can be by the stated model, within the bytes that it really reserves.
"""

from moe2opt.place.case import Case
from moe2opt.place.machine import Device, Machine
from moe2opt.place.plan import PlacePlan
from moe2opt.place.question import PlaceInstance
from moe2opt.place.sections import PlaceConfig

__all__ = ["Case", "Device", "Machine", "PlaceConfig", "PlaceInstance", "PlacePlan"]
