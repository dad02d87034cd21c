"""`slicer.i18n`, which slicer-core lacks: each text as it stands in the source, as in a Slicer without a language."""

from __future__ import annotations

import sys
import types

import slicer

i18n = types.ModuleType("slicer.i18n", "No translation: each text as it stands in the source.")
i18n.tr = lambda text: text
i18n.translate = lambda context, text: text
sys.modules["slicer.i18n"] = slicer.i18n = i18n
