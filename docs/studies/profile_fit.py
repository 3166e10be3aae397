"""Fit the built-in profile tables and store the fit with its hold-out errors.

Usage, from the checkout::

    python docs/studies/profile_fit.py

writes ``problems/profiles/fit.json``. Every hold-out refits everything without the model, source or
device that is left out, so this takes about half a minute. A test compares the file with the
tables.
"""

from __future__ import annotations

import json
from pathlib import Path

from moe2opt.profiles import read_profiles
from moe2opt.profiles.fitting.fit import to_dict

FOLDER = Path(__file__).resolve().parents[2] / "problems" / "profiles"


def main() -> None:
    """Write the fit."""
    profiles = read_profiles(FOLDER)
    content = to_dict(profiles.fit_again(), profiles.digest)
    target = FOLDER / "fit.json"
    target.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"problems/profiles/{target.name} written, {len(content['hold_out'])} hold-out errors")


if __name__ == "__main__":
    main()
