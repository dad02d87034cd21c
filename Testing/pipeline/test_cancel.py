"""A listener can stop register in every stage, and is asked often enough to do so at once."""

from __future__ import annotations

from collections import Counter

import pytest

from SpikeRegLib.errors import Cancelled
from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline import register
from SpikeRegLib.progress import Progress

STAGES = ("prepare", "align", "predict", "refine", "finish")


class Stopper:
    """Raises Cancelled at report number `at` of `stage`, and notes what is reported after that."""

    def __init__(self, stage: str, at: int) -> None:
        self.stage, self.at, self.seen, self.late = stage, at, 0, 0

    def __call__(self, progress: Progress) -> None:
        if self.seen == self.at:
            self.late += 1
        if progress.stage == self.stage:
            self.seen += 1
            if self.seen == self.at:
                raise Cancelled("enough")


@pytest.mark.parametrize(("stage", "at"), [("prepare", 1), ("prepare", 3), ("align", 2), ("refine", 4), ("finish", 3)])
def test_cancelled_ends_the_run_at_once(known, quick, stage, at):
    stopper = Stopper(stage, at)
    with pytest.raises(Cancelled, match="enough"):
        register(known.fixed, known.moving, preset=quick, skip_affine=True, threads=1, listener=stopper)
    assert (stopper.seen, stopper.late) == (at, 0)


@pytest.mark.parametrize(("stage", "at"), [("align", 40), ("predict", 2)])
def test_alignment_and_network_can_be_stopped_half_way(known, stage, at):
    stopper = Stopper(stage, at)
    with pytest.raises(Cancelled, match="enough"):
        register(
            known.fixed, known.moving, preset="fast-preview", skip_affine=stage == "predict", threads=1, device="cpu",
            listener=stopper,
        )  # fmt: skip
    assert (stopper.seen, stopper.late) == (at, 0)


def test_stages_come_in_order_and_fractions_only_grow(sample_run):
    order = list(dict.fromkeys(report.stage for report in sample_run.reports))
    assert order == list(STAGES)
    position = (-1, 0.0)
    for report in sample_run.reports:
        here = (order.index(report.stage), report.fraction)
        assert here >= position and 0 <= report.fraction <= 1, report
        position = here
    for stage in STAGES[1:]:
        ends = [report.fraction for report in sample_run.reports if report.stage == stage]
        assert ends[0] == 0 and ends[-1] == 1


def test_every_piece_of_work_is_followed_by_a_report(sample_run):
    """Counts stand in for seconds: every layer, iteration and slab of the sample pair reports for itself."""
    counts, result = sample_run.counts, sample_run.registration.result
    assert counts["prepare"] >= 3  # the start and each image
    assert counts["align"] > 100
    assert result["spikes"]["passes"] == 2, "one of each network, whose layers all stand in the table"
    assert counts["predict"] >= len(result["spikes"]["layers"])
    assert counts["refine"] >= sum(result["refinement"]["iterations"])
    assert counts["finish"] >= 7


def test_large_images_are_resampled_in_slabs_that_report(known, quick, monkeypatch):
    """The same result, whatever the size of the slabs; one report for each."""
    from SpikeRegLib.pipeline import resampling as finish

    start = known.truth.transforms[1]
    seg = Volume((known.moving.data > 60).short(), known.moving.frame)
    options = {"initial_transform": start, "refine_iterations": 1, "moving_labels": seg, "threads": 1}
    whole = register(known.fixed, known.moving, preset=quick, **options)
    depth, height, width = known.fixed.frame.shape
    monkeypatch.setattr(finish, "VOXELS_PER_REPORT", 7 * height * width)
    counts: Counter = Counter()
    slabs = register(
        known.fixed, known.moving, preset=quick, listener=lambda progress: counts.update([progress.message]), **options
    )
    for work in ("sampling the deformation", "resampling", "resampling the segmentation"):
        assert counts[work] == -(-depth // 7), work
    assert float((slabs.displacement - whole.displacement).abs().max()) < 1e-3
    assert float((slabs.warped.data - whole.warped.data).abs().max()) < 1e-3 * float(whole.warped.data.max())
    assert float((slabs.warped_labels.data != whole.warped_labels.data).float().mean()) < 1e-4
