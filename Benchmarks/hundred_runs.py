"""A hundred registrations one after another in the Slicer module: does the scene grow, does memory?

    python Benchmarks/hundred_runs.py [--runs N] [--out Benchmarks/results/hundred_runs.json]

The module runs in the tests' stand-in for Slicer's application, on the real scene, with the real worker. Every run
registers the bundled pair with the preview preset and another seed, so nothing but the read images is taken over; it is
shown and removed. Memory is the resident size of this process and of the worker, in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Testing" / "widget"), str(ROOT / "Testing" / "scene"), str(ROOT)]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import host  # noqa: E402


def resident_mb(process: int) -> float:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    host.start()
    _, widget = host.loadModule(ROOT / "SpikeRegSlicer" / "SpikeRegSlicer.py")
    import slicer
    from SpikeRegSlicerLib.sample import loadSample

    fixed, moving = loadSample()
    rows = []
    for number in range(1, options.runs + 1):
        settings = {"preset": "fast-preview", "spike_maps": True, "threads": 1, "seed": number}
        run = widget.logic.register(fixed, moving, **settings)
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        run.remove()
        row = {
            "run": number,
            "nodes_with_run": nodes,
            "nodes": slicer.mrmlScene.GetNumberOfNodes(),
            "slicer_mb": resident_mb(os.getpid()),
            "worker_mb": resident_mb(widget.logic.process.processId),
        }
        rows.append(row)
        if number % 10 == 0 or number == 1:
            print(row, flush=True)
    if options.out:
        options.out.write_text(json.dumps({"runs": rows}, indent=1) + "\n", encoding="utf-8")
    host.closeModule(widget)


if __name__ == "__main__":
    main()
