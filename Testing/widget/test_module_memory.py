"""A run that was removed is gone: nothing keeps its volumes until Python happens to look for cycles."""

from __future__ import annotations

import gc

import host
import module_tools as tools
import vtk


def test_a_removed_run_is_freed_at_once(scene):
    fixed, moving = tools.loadPair()
    panel = tools.openPanel()
    try:
        gc.collect()
        gc.disable()
        run = panel.logic.register(fixed, moving, preset="fast-preview", spike_maps=True, threads=1)
        references = []
        for node in (run.warped, run.transform, *run.spikes):
            references.append(vtk.vtkWeakReference())
            references[-1].Set(node)
        assert len(references) == 15 and all(reference.Get() is not None for reference in references)
        run.remove()
        del run, node
        assert [reference.Get().GetName() for reference in references if reference.Get() is not None] == []
    finally:
        gc.enable()
        host.closeModule(panel)
