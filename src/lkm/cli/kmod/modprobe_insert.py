# SPDX-License-Identifier: MIT
"""modprobe NAME, -D and -R: look up, say or load what belongs to it."""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL, ENOENT, EPERM

from lkm.cli.kmod import log
from lkm.formats.modprobe_conf import BadName

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.cli.kmod.modprobe_job import Job
    from lkm.tree.probe import Candidate, Prober, Refusal
    from lkm.tree.tree import Tree

__all__ = ["insert", "insert_all"]

_BUILTIN = "builtin"
_OPTIONS = "$CMDLINE_OPTS"


def insert_all(job: Job, names: list[str]) -> bool:
    """modprobe -a. Whether all went well; goes on after what did not."""
    return not sum([insert(job, name, "") != 0 for name in names])


def insert(job: Job, name: str, extra: str) -> int:
    """One name, with the options `extra`; the errno of the last module that it stands for, 0 for success."""
    prober = job.prober()
    if name.startswith(("/", "./")):
        return _insert_file(job, prober, name, extra)
    try:
        found = prober.lookup(name)
    except BadName:
        found = []
    job.tell_problems(prober)
    if not found:
        text = f"Module {name} not found in directory {job.tree.directory}"
        job.complain(text, _why_nothing_is_found(job.tree))
        return ENOENT
    code = 0
    for candidate in found:
        code = _insert_one(job, prober, candidate, extra)
    return code


def _why_nothing_is_found(tree: Tree) -> str:
    """What is wrong with the tree as a whole; "" if nothing is."""
    try:
        os.stat(tree.directory)
    except OSError as error:
        return f"{tree.directory}: {error.strerror}: are this kernel's modules installed?"
    return "" if tree.is_indexed() else f"there is no modules.dep in {tree.directory}: run depmod"


def _insert_file(job: Job, prober: Prober, name: str, extra: str) -> int:
    try:
        candidate = prober.from_path(os.path.join(os.getcwd(), name))
    except OSError as error:
        job.complain(f"Failed to get module from path {name}: {error.strerror}")
        return ENOENT
    return _insert_one(job, prober, candidate, extra)


def _insert_one(job: Job, prober: Prober, candidate: Candidate, extra: str) -> int:
    if job.lookup_only:
        if job.json:
            job.act("resolve", candidate.name, "", alias=candidate.alias)
        else:
            log.write(candidate.name + "\n")
        return 0
    job.reasons = []
    code = _probe(job, prober, candidate, extra)
    if code == EEXIST:
        log.error(f"could not insert '{candidate.name}': Module already in kernel")
    elif code == ENOENT:
        log.error(
            f"could not insert '{candidate.name}': Unknown symbol in module, or unknown parameter (see dmesg)"
        )
    elif code:
        log.error(f"could not insert '{candidate.name}': {os.strerror(code)}")
    if code:
        for reason in job.reasons:
            log.note(reason)
    return code


def _probe(job: Job, prober: Prober, target: Candidate, extra: str) -> int:
    if not job.ignore_loaded and job.in_kernel(target):
        return EEXIST if job.first_time else 0
    if job.tree.blacklisted(target.name) and (target.alias or job.use_blacklist):
        return 0
    order, refusals = prober.plan(target, ignore_commands=job.ignore_commands)
    job.tell_problems(prober)
    if refusals and _refused(job, refusals, prober):
        return EPERM
    code = 0
    for candidate in order:
        if not job.ignore_loaded and job.in_kernel(candidate):
            code = EEXIST
        else:
            done = _load(job, prober, candidate, extra if candidate is target else None)
            code = code if done is None else done
        if code == EEXIST and candidate is target and job.first_time:
            break
        if code == EEXIST or not candidate.required:
            code = 0
        elif code:
            break
    return code


def _refused(job: Job, refusals: list[Refusal], prober: Prober) -> bool:
    """Say what is forbidden, unless it is there already; whether the load is refused for it."""
    refused = False
    for refusal in refusals:
        if not job.ignore_loaded and job.in_kernel(prober.candidate(refusal.name)):
            continue
        if not refusal.required:
            log.warning(str(refusal))
        else:
            log.error(str(refusal))
            refused = True
    return refused


def _load(job: Job, prober: Prober, candidate: Candidate, extra: str | None) -> int | None:
    """Load one module, or run its command: the errno, None for a dry run."""
    own = prober.options(candidate)
    options = f"{own} {extra or ''}" if own else extra or ""
    command = candidate.command
    if command is not None:
        job.act("install", candidate.name, f"install {command} {options}", command=command, options=options)
        return None if job.dry_run else _run_install(job, candidate, command, options)
    if candidate.path is not None:
        text = f"insmod {candidate.path} {options}"
        job.act("insmod", candidate.name, text, path=candidate.path, options=options)
    elif candidate.builtin:
        job.act(_BUILTIN, candidate.name, f"builtin {candidate.name}")
    return None if job.dry_run else _insert_module(job, candidate, options)


def _run_install(job: Job, candidate: Candidate, command: str, options: str) -> int:
    command = command.replace(_OPTIONS, options)
    code = job.run_command(candidate, command)
    if not code:
        return 0
    log.error(f"Error running install command '{command}' for module {candidate.name}: retcode {code}")
    return EINVAL


def _insert_module(job: Job, candidate: Candidate, options: str) -> int:
    from lkm.cli.kmod.reasons import Reasons
    from lkm.system.insert import insert_file

    if candidate.path is None:
        log.error(f"could not find module by name='{candidate.name}'")
        return ENOENT
    reasons = Reasons()
    try:
        code, why = insert_file(
            candidate.path,
            options,
            force_modversion=job.force_modversion,
            force_vermagic=job.force_vermagic,
        )
        if code:
            log.info(f"Failed to insert module '{candidate.path}': {os.strerror(code)}")
        if code and code != EEXIST:
            job.reasons = [why] if why else reasons.of_load(code)
        return code
    finally:
        reasons.close()
