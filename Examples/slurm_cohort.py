"""A cohort on a cluster with SLURM: Dask asks for jobs, the command hands the rows out to them.

    python Examples/slurm_cohort.py TABLE --out FOLDER [--jobs 20] [--partition P] [--here] [OPTIONS OF COHORT]

Needs `pip install 'spikereg[cohort]' dask-jobqueue` where it runs and where the jobs run, and a file system that both
see. Every job is one worker process of one thread. `--here` starts the same jobs as processes on this machine, to try.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.local import LocalCluster


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--partition")
    parser.add_argument("--here", action="store_true")
    options, rest = parser.parse_known_args()
    job: dict[str, Any] = {
        "cores": 1, "processes": 1, "memory": "4GB", "walltime": "04:00:00", "death_timeout": 120,
        "scheduler_options": {"dashboard": False},
    }  # fmt: skip
    if options.here:
        cluster = LocalCluster(**job)
    else:
        cluster = SLURMCluster(queue=options.partition, job_script_prologue=["export OMP_NUM_THREADS=1"], **job)
    with cluster:
        cluster.scale(jobs=options.jobs)  # or cluster.adapt(maximum_jobs=options.jobs)
        words = ["--out", str(options.out), "--scheduler", cluster.scheduler_address, *rest]
        return subprocess.call([sys.executable, "-m", "SpikeRegLib", "cohort", str(options.table), *words])


if __name__ == "__main__":
    sys.exit(main())
