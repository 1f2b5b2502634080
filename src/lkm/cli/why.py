# SPDX-License-Identifier: MIT
"""Why a module cannot be unloaded: what blocks it, the evidence, the remedy, the verdict."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lkm.cli.arguments import named_module
from lkm.cli.files import read_named_file
from lkm.cli.render import plain, styled, wants_colour
from lkm.cli.scan_progress import ScanProgress
from lkm.diagnosis.diagnose import diagnose
from lkm.diagnosis.findings import Diagnosis, FindingCode, Verdict
from lkm.errors import NoLoadableModules, UsageError
from lkm.root import Root
from lkm.system.scan.capture import with_scans
from lkm.system.scanned import HitClass, Scan
from lkm.system.snapshot import Snapshot
from lkm.values import encode

__all__ = ["as_object", "configure", "read_snapshot", "render_diagnosis", "run"]

SCHEMA = "lkm.why/1"
STYLES = {Verdict.REMOVABLE: "green", Verdict.SAFE: "green", Verdict.LEAKS: "yellow"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm why`."""
    parser.add_argument("name", metavar="NAME", help="a module's name (- and _ are the same)")
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")
    parser.add_argument(
        "--snapshot", metavar="FILE", help="diagnose what lkm snapshot recorded, here or elsewhere"
    )
    parser.add_argument(
        "--scan",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="search kernel memory for pointers into it, for what would dangle; by default where it could only go "
        "without its exit",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis; 0: plain removal works, 1: something is in the way, 4: root would see more."""
    if arguments.scan and arguments.snapshot:
        raise UsageError(
            "--scan searches this machine's memory, --snapshot is another time's", remedy="leave out one"
        )
    name = named_module(arguments.name)
    snapshot = read_snapshot(arguments.snapshot)
    if snapshot.policy.loadable is False:
        raise NoLoadableModules
    diagnosis = diagnose(snapshot, name)
    if _wants_scan(arguments, snapshot, diagnosis):
        progress = ScanProgress()
        try:
            snapshot = with_scans(Root.live(), snapshot, [name], progress=progress)
        finally:
            progress.end()
        diagnosis = diagnose(snapshot, name)
    if arguments.json:
        print(json.dumps(as_object(diagnosis, snapshot), indent=1))
    else:
        print("\n".join(render_diagnosis(diagnosis, colour=wants_colour(sys.stdout))))
        for scan in snapshot.scans:
            if not scan.error:
                print(render_scan(scan))
        for note in _notes(snapshot):
            print(f"lkm: {note}", file=sys.stderr)
    if diagnosis.state is not None and snapshot.policy.euid != 0 and not arguments.snapshot:
        print(
            "lkm: tasks, open files and kernel memory were not seen; as root there is more", file=sys.stderr
        )
        return 4
    return 0 if diagnosis.verdict is Verdict.REMOVABLE else 1


def _wants_scan(arguments: argparse.Namespace, snapshot: Snapshot, diagnosis: Diagnosis) -> bool:
    """A rescue scans before it edits, and its verdict may then be another one than `safe`: so it is told here."""
    if arguments.scan is not None or arguments.snapshot:
        return bool(arguments.scan)
    return diagnosis.verdict is Verdict.SAFE and snapshot.policy.euid == 0


def read_snapshot(path: str | None) -> Snapshot:
    """The recorded snapshot in `path`, or one of this machine now."""
    if path is None:
        from lkm.system.capture import capture

        return capture(Root.live())
    return Snapshot.from_json(read_named_file(path, remedy="record one with lkm snapshot"), name=path)


def as_object(diagnosis: Diagnosis, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """The JSON object of schema lkm.why/1."""
    notes = {"notes": _notes(snapshot)} if snapshot else {}
    scans = {"scans": encode(snapshot.scans)} if snapshot and snapshot.scans else {}
    return {"schema": SCHEMA, **encode(diagnosis), **scans, **notes}


def render_scan(scan: Scan) -> str:
    """A line on what was searched, and how many pointers there are of each kind."""
    counts = ", ".join(f"{len(scan.of(found))} {found.value}" for found in HitClass)
    return (
        f"scanned: {_megabytes(scan.searched)} of kernel memory in {scan.seconds:.1f} s, "
        f"{_megabytes(scan.free)} free, {_megabytes(scan.users)} of processes and files and "
        f"{_megabytes(scan.own)} of its own left out; pointers: {counts}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1_000_000 else f"{size / 1e3:.0f} kB"


def _notes(snapshot: Snapshot) -> list[str]:
    """What was not seen, in sentences."""
    return [*(f"{unread.reader.value}: {unread.why}" for unread in snapshot.unread), *snapshot.notes]


def render_diagnosis(diagnosis: Diagnosis, *, colour: bool) -> list[str]:
    """The diagnosis as lines of text."""
    lines = []
    if diagnosis.state is not None:
        lines.append(f"{diagnosis.module}: {diagnosis.state}, refcnt {diagnosis.refcnt}")
    for finding in diagnosis.findings:
        certainty = "" if finding.certainty.value == "certain" else f" ({finding.certainty.value})"
        lines.append(
            f"  {styled(finding.code.value, 'bold', colour=colour)}{certainty}: {plain(finding.summary)}"
        )
        lines += [f"      seen: {plain(item)}" for item in finding.evidence]
        if finding.event:
            when = "then" if finding.code is FindingCode.OPEN_WITHOUT_REFERENCE else "without its exit"
            lines.append(f"      {when}: {plain(finding.event)}")
        if finding.remedy:
            lines.append(f"      do: {plain(finding.remedy)}")
    if diagnosis.verdict is not None:
        verdict = styled(diagnosis.verdict.value, STYLES.get(diagnosis.verdict, "red"), colour=colour)
        lines.append(f"verdict: {verdict} – {plain(diagnosis.reason)}")
        if diagnosis.remedy:
            lines.append(f"  way on: {plain(diagnosis.remedy)}")
    lines += [f"not scanned: {item}" for item in diagnosis.not_scanned]
    return lines
