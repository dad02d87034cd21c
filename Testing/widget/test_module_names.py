"""Runs can be told apart by their names, and names that are too long end visibly."""

from __future__ import annotations

import re

import module_tools as tools

from SpikeRegLib.presets.preset import preset_names


def test_a_name_tells_preset_and_time_and_both_ends_of_each_volume():
    tools.module()
    from SpikeRegSlicerLib.run_names import LONGEST, SHORTEST, runName

    for preset in [*preset_names(), "/home/me/a very long name of a preset of mine.toml"]:
        name = runName("20261129 T1 post contrast patient 7", "20261129 T1 pre contrast patient 7", preset)
        begin, _, pair = name.partition(": ")
        clock, _, called = begin.partition(" ")
        moving, _, fixed = pair.partition(" → ")
        assert len(name) <= max(LONGEST, len(begin) + 2 * SHORTEST + 5)
        assert re.fullmatch(r"\d\d:\d\d", clock) and (called == preset or "…" in called)
        assert (moving[0], fixed[-1]) == ("2", "7") and moving.count("…") == fixed.count("…") == 1


def test_short_names_stay_as_they_are():
    tools.module()
    from SpikeRegSlicerLib.run_names import runName

    assert runName("T2", "T1", "brain-t1")[-9:] == ": T2 → T1"


def test_a_repeated_run_does_not_say_that_it_took_no_time():
    tools.module()
    from SpikeRegSlicerLib.widgets.results_part import figuresText

    result = {"timing_s": {"total": 0.004}, "device": "cpu", "reused": ["alignment"]}
    assert figuresText(result).replace("\u00a0", " ") == "less than 0.1 s on cpu, the rest known from the run before"
    assert figuresText({**result, "timing_s": {"total": 2.0}, "reused": []}).replace("\u00a0", " ") == "2.0 s on cpu"


def test_a_name_that_has_too_little_room_ends_visibly(opened, scene):
    from PySide6.QtCore import Qt

    assert opened.ui.resultComboBox.elideMode == Qt.TextElideMode.ElideMiddle  # as Slicer's node selectors
