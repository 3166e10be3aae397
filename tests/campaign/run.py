"""The campaign at full size: ``python tests/campaign/run.py --full --workers 2``.

Prints counts and every fault; ends with exit code 1 if there is one. The instance of a fault is
the one of its seed, which ``--first SEED --instances 1`` runs again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from campaign.checking import Tally
from campaign.damage import damages
from campaign.files import files
from campaign.kills import VERBS, kills
from campaign.mutating import chunk
from hostile.seeds import READERS

CHUNK = 50

#: More than 70,000 runs, 300,000 mutations, 10,000 damaged files and 60 kills.
FULL = {"instances": 20_000, "every": 18, "files": 4_000, "damaged": 12_000, "kills": 66}

#: What is told while the campaign runs.
MAIN_COUNTS = ("runs", "mutations", "damaged files", "kills", "faults")


def main() -> int:
    """Run the campaign that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--instances", type=int, default=2_000)
    parser.add_argument("--every", type=int, default=20, help="attack one in so many; 0 for none")
    parser.add_argument("--files", type=int, default=0, help="mutations of result files")
    parser.add_argument("--damaged", type=int, default=0, help="damaged files of other kinds")
    parser.add_argument("--kills", type=int, default=0, help="runs that are killed")
    parser.add_argument("--full", action="store_true", help=f"all of {FULL}")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    if asked.full:
        vars(asked).update(FULL)
    end, start = asked.first + asked.instances, time.monotonic()
    starts = range(asked.first, end, CHUNK)
    tally = Tally()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        jobs = [pool.submit(files, seed, CHUNK) for seed in range(asked.files // CHUNK)]
        jobs += [pool.submit(kills, place, asked.kills) for place in range(len(VERBS))]
        each = -(-asked.damaged // len(READERS))
        jobs += [pool.submit(damages, place, each) for place in range(len(READERS)) if each]
        jobs += [pool.submit(chunk, range(a, min(a + CHUNK, end)), asked.every) for a in starts]
        for number, job in enumerate(as_completed(jobs), 1):
            part = job.result()
            tally.add(part)
            if number % 20 == 0:
                told = ", ".join(f"{tally.counts[name]} {name}" for name in MAIN_COUNTS)
                print(f"{number} of {len(jobs)} parts: {told}", file=sys.stderr, flush=True)
            for fault in part.faults:
                print(fault, flush=True)
    for name, count in sorted(tally.counts.items()):
        print(f"{count:9d}  {name}")
    print(f"{time.monotonic() - start:9.0f}  seconds")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
