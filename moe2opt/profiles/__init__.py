"""Measured tables of devices, the model fitted to them, and predictions with an error bar.

`predict` answers for one LLM on one device; `read_profiles` gives the tables and the fit.
"""

from moe2opt.profiles.fitting.fit import Fit as Fit
from moe2opt.profiles.predicting.offloading import predict_offload as predict_offload
from moe2opt.profiles.predicting.predict import Prediction as Prediction
from moe2opt.profiles.predicting.predict import predict as predict
from moe2opt.profiles.tables.tables import BUILTIN as BUILTIN
from moe2opt.profiles.tables.tables import Profiles as Profiles
from moe2opt.profiles.tables.tables import builtin_profiles as builtin_profiles
from moe2opt.profiles.tables.tables import read_profiles as read_profiles
