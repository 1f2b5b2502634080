# SPDX-License-Identifier: MIT
"""modprobe -c, --show-modversions, --show-exports: what the configuration, or a file, says."""

from __future__ import annotations

from lkm.cli.kmod import log
from lkm.formats.modprobe_conf import render_softdep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.cli.kmod.modprobe_job import Job
    from lkm.formats.elf import Elf
    from lkm.formats.modprobe_conf import Directive
    from lkm.tree.tree import Tree

__all__ = ["show_config", "show_symbols"]


def show_config(tree: Tree) -> None:
    """All that counts, in the form of modprobe.d; then the aliases and symbols of the modules."""
    config = tree.config
    kinds: list[tuple[str, tuple[Directive, ...]]] = [
        ("blacklist", config.blacklist),
        ("forbid", config.forbid),
        ("install", config.install),
        ("remove", config.remove),
        ("alias", config.aliases),
        ("options", config.options),
    ]
    lines = []
    for kind, rows in kinds:
        single = kind in {"blacklist", "forbid"}
        lines += [f"{kind} {row.name}" if single else f"{kind} {row.name} {row.value}" for row in rows]
    lines += [f"softdep {name} {render_softdep(pre, post)}" for name, pre, post in config.softdep_rows()]
    lines += [f"weakdep {name} {' '.join(weak)}" for name, weak in config.weakdep_rows()]
    lines += ["", "# End of configuration files. Dumping indexes now:", "", ""]
    log.write("\n".join(lines))
    for rows_of in (tree.aliases, tree.symbols):
        log.write("".join([f"alias {key} {module}\n" for key, module in rows_of()]))


def config_object(tree: Tree) -> dict[str, object]:
    """The same for --json, each directive with the place where it stands."""
    config = tree.config
    kinds = {
        "aliases": config.aliases,
        "blacklist": config.blacklist,
        "forbid": config.forbid,
        "options": config.options,
        "install": config.install,
        "remove": config.remove,
        "softdeps": config.softdeps,
        "weakdeps": config.weakdeps,
    }
    made: dict[str, object] = {
        kind: [{"name": row.name, "value": row.value, "where": row.where} for row in rows]
        for kind, rows in kinds.items()
    }
    made["module_aliases"] = [{"alias": key, "module": module} for key, module in tree.aliases()]
    made["symbols"] = [{"symbol": key.partition(":")[2], "module": module} for key, module in tree.symbols()]
    return made


def show_symbols(job: Job, path: str, *, exports: bool) -> int:
    """The CRCs that a file was built against, or those of what it exports; 0, or 1 if there are none."""
    from lkm.errors import ParseError
    from lkm.formats.compression import decompress
    from lkm.formats.crcs import parse_export_crcs, parse_import_crcs
    from lkm.formats.elf import parse_elf

    what = "symbols" if exports else "modversions"
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        job.complain(f"Module {path} not found.")
        return 1
    except OSError as error:
        job.complain(f"could not get {what} of {path}: {error.strerror}")
        return 1
    try:
        elf: Elf = parse_elf(decompress(data, name=path), name=path)
        rows = parse_export_crcs(elf) if exports else parse_import_crcs(elf)
    except ParseError as error:
        job.complain(f"could not get {what} of {path}: {error}")
        return 1
    if rows is None:
        job.complain(f"could not get {what} of {path}: No data available")
        return 1
    for name, crc in rows:
        job.act("symbol", name, "", crc=f"{crc:#010x}")
    if not job.json:
        log.write("".join([f"0x{crc:08x}\t{name}\n" for name, crc in rows]))
    return 0
