"""Files of single nodes: written whole or not at all, read without leaving storage nodes in the scene."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from SpikeRegLib.errors import InputError

from . import grids


class WrittenFiles:
    """Remembers what each file was made of, so that files of unchanged nodes keep their time of writing."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, os.stat_result]] = {}

    def keep(self, path: str, signature: Any, write: Callable[[str], None]) -> str:
        """Have `write(temporary path)` make `path`, unless it was made of an equal `signature` and is untouched.

        Raises:
            InputError: the file could not be written; one that was there before is untouched.
        """
        known = self._made.get(path)
        if known is not None and known[0] == signature and _same(path, known[1]):
            return path
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, ".part-" + name)
        try:
            write(temporary)
            os.replace(temporary, path)
            self._made[path] = (signature, os.stat(path))
        except OSError as error:
            raise InputError(
                _("{path}: cannot be written ({reason}); {remedy}").format(
                    path=path, reason=error.strerror, remedy=_remedy(folder)
                )
            ) from error
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        return path


def writeImage(path: str, image, matrix: np.ndarray) -> None:
    """Write an image as .nrrd, uncompressed: the quickest, and the only one whose geometry is exact to the last bit.

    Args:
        image: vtkImageData as a volume node holds it.
        matrix: 4x4, voxel to RAS mm.

    Raises:
        OSError: the file could not be written, or the disk was full.
    """
    node = slicer.vtkMRMLScalarVolumeNode()  # outside the scene: nothing there notices
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(grids.toMatrix(matrix))
    expected = image.GetNumberOfPoints() * image.GetScalarSize()
    _write(slicer.vtkMRMLVolumeArchetypeStorageNode(), node, path, expected)


def writeTransform(path: str, fromParent) -> None:
    """Write a transform (RAS points to RAS points) as an ITK file, which holds the same map in LPS.

    Raises:
        OSError: the file could not be written, or the disk was full.
    """
    node = slicer.vtkMRMLTransformNode()
    node.SetAndObserveTransformFromParent(fromParent)
    _write(slicer.vtkMRMLTransformStorageNode(), node, path, 1)


def writeText(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def readInto(node, storage, path: str) -> None:
    """Read a file into a node that is not in the scene, so that no storage node ties the scene to a run's folder.

    Raises:
        InputError: missing or unreadable file.
    """
    if not os.path.isfile(path):
        raise InputError(_("{path}: the run did not write it; run again").format(path=path))
    storage.SetFileName(path)
    if not storage.ReadData(node):
        raise InputError(_("{path}: cannot be read; run again").format(path=path))


def _write(storage, node, path: str, expectedBytes: int) -> None:
    # Asked first: the storage nodes print a page about a folder they cannot write to, and say nothing of a full disk.
    with open(path, "wb"):
        pass
    storage.SetUseCompression(0)
    storage.SetFileName(path)
    if not storage.WriteData(node) or os.path.getsize(path) < expectedBytes:
        # A storage node tries a volume in this folder first, and leaves there what it could not complete.
        shutil.rmtree(os.path.join(os.path.dirname(path), "TempWrite"), ignore_errors=True)
        raise OSError(0, _("the disk is full or the folder is gone"))


def _same(path: str, before: os.stat_result) -> bool:
    try:
        now = os.stat(path)
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def _remedy(folder: str) -> str:
    return _("free some space, or allow writing to {folder}, and run again").format(folder=folder or _("this folder"))
