"""What the slice views show, remembered before something else is shown in them, and put back exactly."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import slicer

_VOLUMES = ("BackgroundVolumeID", "ForegroundVolumeID", "LabelVolumeID")
_NUMBERS = ("ForegroundOpacity", "LabelOpacity", "Compositing", "ClipToBackgroundVolume", "LinkedControl")
_ALPHA_BLENDING = 0


def compositeNodes(scene: Any) -> list[Any]:
    """The node of each slice view that says which volumes it shows."""
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)


class SliceViews:
    """The slice views of the scene, all set alike and linked while `show` holds, as they were after `restore`.

    Several of these may take turns: what the views showed before the first of them is remembered once for all, and only
    the one that showed last puts it back. So it does not matter whether one is shown before the other is hidden. One
    that was dropped without `restore` is forgotten, with what it had remembered.
    """

    _before: ClassVar[dict[str, dict[str, Any]]] = {}  # ID of a composite node -> what it showed
    _last: ClassVar[Callable[[], SliceViews | None]] = staticmethod(lambda: None)  # weak reference

    def __init__(self, scene: Any) -> None:
        self.scene = scene

    def show(self, background: Any, foreground: Any = None, opacity: float = 0.0) -> None:
        """Show one or two volumes in every slice view."""
        if SliceViews._last() is None:
            self._before.clear()
        SliceViews._last = weakref.ref(self)
        for composite in compositeNodes(self.scene):
            if composite.GetID() not in self._before:
                self._before[composite.GetID()] = {
                    name: getattr(composite, f"Get{name}")() for name in (*_VOLUMES, *_NUMBERS)
                }
            changing = composite.StartModify()
            composite.SetCompositing(_ALPHA_BLENDING)
            composite.SetClipToBackgroundVolume(1)
            composite.SetLinkedControl(1)
            composite.SetBackgroundVolumeID(background.GetID())
            composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
            composite.SetForegroundOpacity(opacity)
            composite.EndModify(changing)

    def restore(self) -> None:
        """Put back what each view showed, as far as those volumes are still in the scene; nothing if another shows."""
        if SliceViews._last() is not self:
            return
        for composite in compositeNodes(self.scene):
            before = self._before.get(composite.GetID())
            if before is None:
                continue
            changing = composite.StartModify()
            for name, value in before.items():
                gone = name in _VOLUMES and (value is None or self.scene.GetNodeByID(value) is None)
                getattr(composite, f"Set{name}")(None if gone else value)
            composite.EndModify(changing)
        self._before.clear()
