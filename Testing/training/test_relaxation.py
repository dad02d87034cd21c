"""Contrasts from relaxation times: what they are called, and that no two are alike."""

from __future__ import annotations

import pytest

from SpikeRegLib.anatomy.structures import CSF, LABELS, MIRRORED, VENTRICLES
from SpikeRegLib.training.relaxation import KINDS, weighted_contrast
from SpikeRegLib.training.stream import Stream

WHITE, CORTEX, PUTAMEN, PALLIDUM = 2, 3, 12, 13


def drawn(kind: str | None, seed: int) -> dict[int, float]:
    return dict(zip(LABELS, weighted_contrast(Stream(seed), kind).tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_contrasts_are_what_they_are_called(kind: str) -> None:
    """T2: fluid far above grey matter, that above white, iron dark; FLAIR: fluid darkest; density: little contrast."""
    for seed in range(30):
        means = drawn(kind, seed)
        assert means[WHITE] == pytest.approx(0.5)
        assert all(means[left] == means[right] for left, right in MIRRORED.items())
        tissue = [means[label] for label in (WHITE, CORTEX, PUTAMEN)]
        fluid = min(means[label] for label in (CSF, *VENTRICLES))
        assert means[PALLIDUM] < means[CORTEX]
        if kind == "T2":
            assert means[WHITE] < means[CORTEX] < 2.2 * means[WHITE] and fluid > 1.3 * max(tissue)
        elif kind == "FLAIR":
            assert max(means[label] for label in (CSF, *VENTRICLES)) < 0.85 * min(tissue)
        else:
            assert max(tissue) < 1.8 * min(tissue) and fluid < 2.0 * max(tissue)


def test_every_draw_is_another_and_one_stream_gives_the_same_again() -> None:
    assert drawn(None, 1) == drawn(None, 1) != drawn(None, 2)
    bright = [drawn(None, seed)[CSF] > 1.0 for seed in range(40)]
    assert any(bright) and not all(bright)
