# SPDX-License-Identifier: MIT
"""What a scan of kernel memory means for a removal: `pointed-at`, one finding each live object, one for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from lkm.diagnosis.findings import Certainty, Finding, FindingCode
from lkm.names import ModuleName
from lkm.system.scanned import Hit, HitClass, Scan
from lkm.system.snapshot import Snapshot

__all__ = ["kept_objects", "pointed_at_findings", "scan_of"]

_SHOWN = 8
"""Places, and live objects, that are named one by one: a file system may have dozens of files in sysfs."""


def scan_of(snapshot: Snapshot, name: ModuleName) -> Optional[Scan]:
    """The scan of kernel memory for that module that did happen, or None."""
    return next((scan for scan in snapshot.scans if scan.module == name and not scan.error), None)


def pointed_at_findings(snapshot: Snapshot, name: ModuleName, *, referenced: bool = False) -> list[Finding]:
    """`pointed-at`: pointers into the module in live objects that are not registrations told already, certain; and
    those in memory of an unknown owner, which cannot be ruled out.

    An open file or a mapping whose operations are in the module, or an event of it that perf counts, and no
    reference covers it (`referenced`: one may), is `open-without-reference`: its next use calls freed code, though
    the exit runs.
    """
    scan = scan_of(snapshot, name)
    if scan is None:
        return []
    findings = [*_live_findings(scan, name, referenced=referenced)]
    unknown, stale = scan.of(HitClass.UNKNOWN), scan.of(HitClass.STALE)
    if unknown:
        findings.append(
            Finding(
                FindingCode.POINTED_AT,
                f"{_counted(len(unknown), 'word')} in memory of unknown owners would point to freed memory",
                evidence=(*(_line(hit) for hit in unknown[:_SHOWN]), _left_over(stale)),
                remedy="nothing shows that they are ever followed; look at the places if you can",
                certainty=Certainty.POSSIBLE,
            )
        )
    return findings


def _live_findings(scan: Scan, name: ModuleName, *, referenced: bool) -> Iterator[Finding]:
    """One a live object; of many, one for those beyond the first. All that are open have their own."""
    live: dict[tuple[str, int], list[Hit]] = {}
    for hit in scan.of(HitClass.LIVE):
        if not hit.registered:
            live.setdefault((hit.what, hit.place.start), []).append(hit)
    objects = sorted(live.values(), key=lambda hits: not _in_use(hits[0]))
    shown = max(_SHOWN, 1 + sum(_in_use(hits[0]) for hits in objects))
    for hits in objects[:shown]:
        used = _in_use(hits[0])
        yield Finding(
            FindingCode.OPEN_WITHOUT_REFERENCE if used and not referenced else FindingCode.POINTED_AT,
            f"{hits[0].what} points to {_target(hits[0], name)}",
            evidence=tuple(_line(hit) for hit in hits[:_SHOWN]),
            remedy="end who uses it" if used else "its own exit takes that away, where it can run",
            event=hits[0].event,
        )
    rest = objects[shown:]
    if rest:
        yield Finding(
            FindingCode.POINTED_AT,
            f"{_counted(len(rest), 'live object')} more with pointers into {name}",
            evidence=tuple(
                f"{hits[0].what} → {hits[0].target or hex(hits[0].value)}" for hits in rest[:_SHOWN]
            ),
            remedy="its own exit takes them away, where it can run",
            event=rest[0][0].event,
        )


def kept_objects(snapshot: Snapshot, name: ModuleName) -> list[str]:
    """What the module points to and nobody would free: `my_buffer → kmalloc-64 object 0x…`."""
    scan = scan_of(snapshot, name)
    return [f"{hit.target} → {hit.place}" for hit in scan.kept] if scan else []


def _in_use(hit: Hit) -> bool:
    """An open file, a mapping, an event that perf counts. No exit takes that away."""
    return hit.what.split(" ", 1)[0] in ("file.f_op", "vm_area_struct.vm_ops", "perf_event.tp_event")


def _target(hit: Hit, name: ModuleName) -> str:
    return f"{hit.target or hex(hit.value)} [{name}]"


def _line(hit: Hit) -> str:
    return f"{hit.place} → {hit.target or hex(hit.value)}"


def _left_over(stale: tuple[Hit, ...]) -> str:
    if not stale:
        return "none is left over in memory that is not in use"
    return f"{_counted(len(stale), 'more')} in memory that is not in use (freed objects, unused stack): not followed"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 and noun != "more" else "")
