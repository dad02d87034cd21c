"""The part of `spikereg evaluate` for studies: many pairs measured, a manifest written, or two methods compared."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from SpikeRegLib.commands.arguments import number
from SpikeRegLib.commands.streams import say, say_error
from SpikeRegLib.errors import InputError
from SpikeRegLib.outputs.accounts import COMPARISON, EVALUATION
from SpikeRegLib.outputs.folder import check_results_folder

if TYPE_CHECKING:
    from SpikeRegLib.studies.pairs import Study

_SOURCES = ("manifest", "pairs", "dataset")
_OF_STUDIES = ("results", "out", *_SOURCES, "data", "write_manifest", "compare", "metric", "margin")


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of studies."""
    study = parser.add_argument_group("a study")
    study.add_argument("results", nargs="?", type=Path, metavar="RESULTS", help="folder with their transforms")
    study.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables")
    study.add_argument("--manifest", type=Path, metavar="FILE", help="CSV with the files of each pair")
    study.add_argument("--pairs", type=Path, metavar="FILE", help="JSON of a data set or evaluation of Learn2Reg")
    study.add_argument("--data", type=Path, metavar="ROOT", help="what --pairs is relative to (default: its folder)")
    study.add_argument(
        "--dataset",
        nargs=2,
        metavar=("NAME", "ROOT"),
        help="oasis-learn2reg or dir-lab, below ROOT as it is distributed",
    )
    study.add_argument("--write-manifest", type=Path, metavar="FILE", help="write the pairs of --dataset or --pairs")
    two = parser.add_argument_group("two methods")
    two.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two evaluation.json: A minus B")
    two.add_argument("--metric", metavar="NAME", help="whose equivalence is tested (default: dice)")
    two.add_argument(
        "--margin", type=number("margin"), metavar="M", help="of equivalence, in its unit (default for dice: 0.005)"
    )


def asks_for_study(options: argparse.Namespace) -> bool:
    """Whether any option of studies was given."""
    return any(getattr(options, name) is not None for name in _OF_STUDIES)


def run_study(options: argparse.Namespace, groups: Mapping[int, int] | None) -> int:
    """Do what the options ask for and return the exit code.

    Args:
        options: as parsed by `add_study_arguments`.
        groups: label -> group, to merge labels first.

    Raises:
        InputError: options that do not go together, or input that cannot be used.
    """
    if options.compare is not None:
        _refuse(options, ("results", "groups", *_SOURCES, "data", "write_manifest"), "--compare")
        return _compare(options)
    _refuse(options, ("metric", "margin"), "a study without --compare")
    if options.write_manifest is not None:
        _refuse(options, ("results", "out", "groups", "manifest"), "--write-manifest")
        from SpikeRegLib.studies.datasets import write_manifest

        path = write_manifest(_study(options), options.write_manifest)
        say(f"{path}: register the pairs with `spikereg cohort {path} --out RESULTS`")
        return 0
    if options.results is None or options.out is None:
        missing = "RESULTS" if options.results is None else "--out"
        raise InputError(f"{missing}: required to measure a study; give RESULTS, --out and where the pairs are listed")
    return _evaluate(options, groups)


def _evaluate(options: argparse.Namespace, groups: Mapping[int, int] | None) -> int:
    study = _study(options)
    check_results_folder(options.out, EVALUATION)

    from SpikeRegLib.studies.evaluation import evaluate_study  # with torch
    from SpikeRegLib.studies.evaluation_folder import write_evaluation
    from SpikeRegLib.studies.tables import printed_table

    evaluation = evaluate_study(study, options.results, groups=groups, told=say_error)
    write_evaluation(evaluation, options.out)
    say("\n".join([*printed_table(evaluation), "", f"tables: {options.out}"]))
    return 1 if evaluation["failed"] else 0


def _study(options: argparse.Namespace) -> Study:
    """The pairs, from the one place where they are listed."""
    given = [name for name in _SOURCES if getattr(options, name) is not None]
    if len(given) != 1:
        raise InputError("--manifest, --pairs, --dataset: a study needs one of them, which lists its pairs; give one")
    if options.data is not None and given[0] != "pairs":
        raise InputError("--data: goes with --pairs, whose names are relative to it; leave it out")
    if options.manifest is not None:
        from SpikeRegLib.studies.manifest import read_manifest

        return read_manifest(options.manifest)
    if options.pairs is not None:
        from SpikeRegLib.studies.learn2reg_pairs import read_learn2reg_pairs

        return read_learn2reg_pairs(options.pairs, options.data)
    from SpikeRegLib.studies.datasets import read_dataset

    name, root = options.dataset
    return read_dataset(name, Path(root))


def _compare(options: argparse.Namespace) -> int:
    if options.out is not None:
        check_results_folder(options.out, COMPARISON)
    from SpikeRegLib.studies.comparison import compare_evaluations, comparison_lines, read_evaluation

    first, second = (read_evaluation(path) for path in options.compare)
    comparison = compare_evaluations(first, second, metric=options.metric, margin=options.margin)
    if options.out is not None:
        from SpikeRegLib.studies.evaluation_folder import write_comparison

        write_comparison(comparison, options.out)
    say("\n".join(comparison_lines(comparison, (str(options.compare[0]), str(options.compare[1])))))
    return 0


def _refuse(options: argparse.Namespace, names: tuple[str, ...], kind: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            shown = "RESULTS" if name == "results" else f"--{name.replace('_', '-')}"
            raise InputError(f"{shown}: does not go with {kind}; leave it out")
