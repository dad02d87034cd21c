"""The T1-weighted images of a BIDS data set."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from SpikeRegLib.errors import InputError
from SpikeRegLib.text.json_text import read_json

_LABEL = "[0-9a-zA-Z]+"
_SUBJECT, _SESSION = re.compile(f"sub-({_LABEL})"), re.compile(f"ses-({_LABEL})")
_T1W = re.compile(
    rf"sub-(?P<sub>{_LABEL})(?:_ses-(?P<ses>{_LABEL}))?(?P<rest>(?:_[a-z]+-{_LABEL})*)_T1w\.nii(?:\.gz)?", re.ASCII
)


@dataclass(frozen=True)
class T1w:
    """One T1-weighted image.

    Attributes:
        path: of the file.
        subject: its label, without "sub-".
        session: its label, without "ses-"; "" where the subject has none.
    """

    path: Path
    subject: str
    session: str

    @property
    def stem(self) -> str:
        """The entities that name it in file names: "sub-01_ses-2"."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> str:
        """Of its derivatives: "sub-01/ses-2/anat"."""
        return f"sub-{self.subject}/" + (f"ses-{self.session}/" if self.session else "") + "anat"


def find_images(root: Path, subjects: Collection[str] = (), sessions: Collection[str] = ()) -> list[T1w]:
    """One T1-weighted image of every session, in the order of the labels.

    Where a session has several, the first by name is taken: run 1, or the one without further entities.

    Args:
        root: of a data set, with its dataset_description.json.
        subjects, sessions: labels, with or without "sub-" and "ses-"; all if not given.

    Raises:
        InputError: no data set, a label that is not there, or no T1-weighted image.
    """
    _check_root(root)
    wanted = [_label("--participant-label", label, "sub-") for label in subjects]
    visits = [_label("--session-label", label, "ses-") for label in sessions]
    found = [image for folder in _matching(root, _SUBJECT) for image in _of_subject(folder, visits)]
    there = {image.subject for image in found}
    for label in wanted:
        if label not in there:
            raise InputError(f"{root}: no T1-weighted image of sub-{label}; check --participant-label and the data set")
    chosen = [image for image in found if not wanted or image.subject in wanted]
    if not chosen:
        raise InputError(f"{root}: no T1-weighted image (sub-*/[ses-*/]anat/*_T1w.nii.gz); check the data set")
    return chosen


def _check_root(root: Path) -> None:
    description = root / "dataset_description.json"
    try:
        table = read_json(description.read_bytes())
    except OSError as error:
        raise InputError(
            f"{description}: cannot be read ({error.strerror}); give the root of a BIDS data set"
        ) from error
    except ValueError as error:
        raise InputError(f"{description}: not JSON ({error}); repair it") from error
    if not isinstance(table, dict) or "BIDSVersion" not in table:
        raise InputError(f"{description}: has no BIDSVersion; give the root of a BIDS data set")


def _label(option: str, text: str, prefix: str) -> str:
    label = text.removeprefix(prefix)
    if not re.fullmatch(_LABEL, label, re.ASCII):
        raise InputError(f"{option} {text}: a label is of letters and digits; leave out everything else")
    return label


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []


def _of_subject(folder: Path, sessions: Collection[str]) -> list[T1w]:
    visits = [(path, path.name.removeprefix("ses-")) for path in _matching(folder, _SESSION)] or [(folder, "")]
    found = []
    for place, session in visits:
        if sessions and session not in sessions:
            continue
        images = sorted((place / "anat").glob("*_T1w.nii*"), key=lambda path: (len(path.name), path.name))
        for path in images:
            named = _T1W.fullmatch(path.name)
            if named and named["sub"] == folder.name.removeprefix("sub-") and (named["ses"] or "") == session:
                found.append(T1w(path, named["sub"], session))
                break
    return found
