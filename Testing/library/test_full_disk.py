"""Every file that the library writes, on a disk that is full: one line with the remedy, and the folder as it was."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from examples import FRAMES, a_registration

from SpikeRegLib.errors import InputError
from SpikeRegLib.images.points import write_points
from SpikeRegLib.images.volumes import Volume, write_volume
from SpikeRegLib.models import save_model
from SpikeRegLib.neural_field.coded import CodedDeformation
from SpikeRegLib.neural_field.field import Decoders
from SpikeRegLib.neural_field.files import write_codes
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.outputs.folder import write_outputs
from SpikeRegLib.presets.preset import load_preset, write_preset
from SpikeRegLib.report import write_report
from SpikeRegLib.space.transforms import DisplacementTransform, Transform, write_transform
from SpikeRegLib.spiking.spec import velocity_unet
from SpikeRegLib.spiking.unet import AnalogUNet
from SpikeRegLib.system import atomic_files
from SpikeRegLib.system.atomic_files import atomic_output, check_output
from SpikeRegLib.training.checkpoint import save_checkpoint
from SpikeRegLib.training.loop import rewind

FRAME = FRAMES["plain"]
NOISE = torch.rand(FRAME.shape, generator=torch.Generator().manual_seed(0))
FIELD = DisplacementTransform(NOISE.expand(3, -1, -1, -1), FRAME)


def a_network() -> AnalogUNet:
    return AnalogUNet(velocity_unet("tiny", encoder=(4, 4, 4, 4), decoder=(4, 4, 4)))


def write_checkpoint(path: Path) -> None:
    network = a_network()
    save_checkpoint(path, network, torch.optim.Adam(network.parameters()), {"step": 1})


def write_code_file(path: Path) -> None:
    options = FieldSizes(global_size=4, local_size=6, frequencies=8, width=16)
    write_codes(CodedDeformation(Decoders(options), (), FRAME, 4.0, Transform.identity()), path)


WRITERS = {
    "image.nii.gz": lambda path: write_volume(Volume(NOISE, FRAME), path),
    "image.nii": lambda path: write_volume(Volume(NOISE, FRAME), path),
    "image.nrrd": lambda path: write_volume(Volume(NOISE, FRAME), path),
    "image.mha": lambda path: write_volume(Volume(NOISE, FRAME), path),
    "labels.nii.gz": lambda path: write_volume(Volume((NOISE * 1000).to(torch.int16), FRAME), path),
    "transform.h5": lambda path: write_transform(FIELD, path),
    "transform.tfm": lambda path: write_transform(FIELD, path),
    "field.nii.gz": lambda path: write_transform(FIELD, path),
    "points.csv": lambda path: write_points(torch.zeros(3, 3), path),
    "points.mrk.json": lambda path: write_points(torch.zeros(3, 3), path),
    "points.fcsv": lambda path: write_points(torch.zeros(3, 3), path),
    "mine.toml": lambda path: write_preset(load_preset("fast-preview"), path),
    "codes.safetensors": write_code_file,
    "model.safetensors": lambda path: save_model(a_network(), path, {}),
    "checkpoint.safetensors": write_checkpoint,
    "report.html": lambda path: write_report(a_registration(), path),
    "results": lambda path: write_outputs(a_registration(), path),
}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with contextlib.suppress(FileNotFoundError):
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
        if mounted.returncode == 0:
            yield folder
            subprocess.run(["umount", folder], check=True)
            return
    pytest.skip("may not mount a file system")


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        fill_up(folder / "other")


def message_of(write, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        write(path)
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_folder_as_it_was(name, small_disk):
    fill(small_disk)
    path = small_disk / name
    expected = f"{path}: cannot be written, the disk is full; free some space and run again"
    assert message_of(WRITERS[name], path) == expected
    assert [entry.name for entry in small_disk.iterdir()] == ["other"]


LIMITED = """
import json, resource, sys
from pathlib import Path
from test_full_disk import WRITERS, message_of
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
print(json.dumps({name: message_of(write, Path(sys.argv[1], name)) for name, write in WRITERS.items()}))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_files_that_may_not_grow_leave_the_ones_before(tmp_path):
    """In a process of its own: what ITK cannot print there, it prints never again."""
    files = [tmp_path / name for name in WRITERS if name != "results"]
    for path in files:
        path.write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    for name, message in json.loads(done.stdout).items():
        assert message.startswith(str(tmp_path / name)) and "\n" not in message
        assert ": cannot be written (" in message and "; " in message
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert {path.read_text() for path in files} == {"before"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_why_a_file_cannot_be_written_is_said_with_a_remedy(number, tmp_path):
    def write(path):
        with atomic_output(path):
            raise OSError(number, os.strerror(number))

    message = message_of(write, tmp_path / "a.nii.gz")
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("free some space" in message) == full and ("choose another folder" in message) != full
    assert full or os.strerror(number) in message
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_short_without_a_word_is_noticed(small_disk):
    """As ITK's NIfTI writer does it: what was written fits, but nothing after it."""

    def write(path):
        with atomic_output(path) as temporary, contextlib.suppress(OSError):
            fill_up(temporary)

    assert "the disk is full" in message_of(write, small_disk / "a.nii")
    assert list(small_disk.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody may write: /proc")
def test_a_folder_that_nobody_may_write_is_refused_before_any_work():
    assert "choose another folder" in message_of(lambda path: check_output(path, (".nii.gz",)), Path("/proc/a.nii.gz"))


def test_only_what_replaces_a_file_waits_for_the_disk(tmp_path, monkeypatch):
    waited: list[Path] = []
    monkeypatch.setattr(atomic_files, "flush", waited.append)
    for count in (0, 1):
        with atomic_output(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
        assert len(waited) == count


def test_a_log_is_rewound_whole_or_not_at_all(small_disk):
    log = small_disk / "log.jsonl"
    log.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    fill(small_disk)
    assert "the disk is full" in message_of(lambda path: rewind(path, 1, write=True), log)
    assert log.read_text().count("\n") == 2
    (small_disk / "other").unlink()
    assert rewind(log, 1, write=True) == {"step": 1, "loss": 1.0}
    assert log.read_text() == '{"step": 1, "loss": 1.0}\n'
