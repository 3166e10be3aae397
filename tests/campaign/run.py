"""The campaign at full size: ``python tests/campaign/run.py --instances 20000 --workers 2``.

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
from campaign.files import files
from campaign.kills import VERBS, kills
from campaign.mutating import chunk

CHUNK = 50


def main() -> int:
    """Run the campaign that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--instances", type=int, default=2_000)
    parser.add_argument("--every", type=int, default=20, help="attack one in so many; 0 for none")
    parser.add_argument("--files", type=int, default=0, help="mutations of result files")
    parser.add_argument("--kills", type=int, default=0, help="runs that are killed")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    end, start = asked.first + asked.instances, time.monotonic()
    starts = range(asked.first, end, CHUNK)
    tally = Tally()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        jobs = [pool.submit(chunk, range(a, min(a + CHUNK, end)), asked.every) for a in starts]
        jobs += [pool.submit(files, seed, CHUNK) for seed in range(asked.files // CHUNK)]
        jobs += [pool.submit(kills, place, asked.kills) for place in range(len(VERBS))]
        for job in as_completed(jobs):
            part = job.result()
            tally.add(part)
            for fault in part.faults:
                print(fault, flush=True)
    for name, count in sorted(tally.counts.items()):
        print(f"{count:9d}  {name}")
    print(f"{time.monotonic() - start:9.0f}  seconds")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
