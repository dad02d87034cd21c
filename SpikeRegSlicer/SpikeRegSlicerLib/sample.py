"""The pair of synthetic heads that comes with the library, for a first try and for tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import slicer

from SpikeRegSlicerLib.library import LIBRARY, libraryFolder

CATEGORY = "SpikeReg"
NAME = "SpikeRegSample"


def samplePath(name: str) -> str:
    """Of one of the bundled files: fixed, moving, fixed_seg, moving_seg."""
    return os.path.join(libraryFolder(), LIBRARY, "sample", f"{name}.nii.gz")


def loadSample(source: Any = None) -> list[Any]:
    """Load the pair: [fixed, moving]. `source` is what SampleData hands to a downloader; nothing is downloaded."""
    return [
        slicer.util.loadVolume(samplePath("fixed"), {"name": "SpikeReg fixed"}),
        slicer.util.loadVolume(samplePath("moving"), {"name": "SpikeReg moving"}),
    ]


def loadSampleLabels() -> list[Any]:
    """Load the label maps of the pair: [fixed, moving]."""
    return [
        slicer.util.loadLabelVolume(samplePath("fixed_seg"), {"name": "SpikeReg fixed labels"}),
        slicer.util.loadLabelVolume(samplePath("moving_seg"), {"name": "SpikeReg moving labels"}),
    ]


def registerSample(iconFolder: str) -> None:
    """Offer the pair in the module Sample Data, whose button calls `loadSample`.

    Scripts that ask for the pair by its name get it through the addresses of the files, without network. Slicer refuses
    a source without addresses, file names and node names.
    """
    import SampleData

    names = ("fixed", "moving")
    thumbnail = os.path.join(iconFolder, f"{NAME}.png")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=thumbnail if os.path.isfile(thumbnail) else None,
        uris=[Path(samplePath(name)).as_uri() for name in names],
        fileNames=[f"SpikeReg-{name}.nii.gz" for name in names],
        nodeNames=[f"SpikeReg {name}" for name in names],
        customDownloader=loadSample,
    )
