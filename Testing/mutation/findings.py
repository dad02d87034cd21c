"""What became of the mutants, and the table of it."""

from __future__ import annotations

import difflib
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Finding:
    """One mutant: where it is, what it changes, and whether a test failed on it.

    Attributes:
        by: the test that failed, or how else the mutant was caught; empty for a survivor.
        tests: how many tests were given to it.
    """

    file: str
    number: int
    was: str
    becomes: str
    by: str
    tests: int
    seconds: float

    @classmethod
    def of(cls, file: str, number: int, was: str, becomes: str, by: str, tests: int, seconds: float) -> Finding:
        """The finding on a mutant that made the text `was` of a whole file into `becomes`."""
        lines = list(difflib.unified_diff(was.splitlines(), becomes.splitlines(), lineterm="", n=0))[3:]
        out = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
        new = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
        return cls(file, number, out, new, by, tests, round(seconds, 1))

    @classmethod
    def read(cls, path: Path) -> Finding | None:
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def key(self) -> tuple[str, str, str]:
        return self.file, self.was, self.becomes

    def line(self) -> str:
        verdict, by = ("caught", f"by {self.by}") if self.by else ("survived", f"{self.tests} tests")
        place = f"{verdict} {self.file}:{self.number} {by} in {self.seconds} s"
        return f"{place}\n    - {self.was}\n    + {self.becomes}"


def equivalents(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """Mutants that a person found to do what the library does -> why no test can tell them apart."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]
    return {(entry["file"], entry["was"], entry["becomes"]): entry["why"] for entry in entries}


def report(findings: list[Finding], rooms: dict[str, str], same: dict[tuple[str, str, str], str], title: str) -> str:
    """The survivors, and how many of the mutants that differ from the library were caught, by room and in all."""
    lines = ["", f"Survivors ({title}):"]
    caught: Counter[str] = Counter()
    differ: Counter[str] = Counter()
    for finding in findings:
        room = rooms[finding.file]
        if finding.by:
            caught.update((room, "all"))
        elif why := same.get(finding.key()):
            lines.append(finding.line().replace("survived", "equivalent", 1) + f"\n    = {why}")
            continue
        else:
            lines.append(finding.line())
        differ.update((room, "all"))
    lines.append("")
    for room in (*dict.fromkeys(rooms.values()), "all"):
        if differ[room]:
            share = 100 * caught[room] / differ[room]
            lines.append(f"{room:12s} {caught[room]:4d} of {differ[room]:4d} caught {share:5.1f} %")
    lines.append(f"equivalent   {len(findings) - differ['all']:4d}")
    return "\n".join(lines)
