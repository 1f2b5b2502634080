# SPDX-License-Identifier: MIT
"""Mutants and a real kernel: modules from a guest, mutants loaded in one, and what was foretold of them."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lkm.formats.compression import decompress
from lkm.formats.image_exports import parse_image_exports
from lkm.formats.kernel_image import KernelImage, parse_kernel_image
from lkm.formats.module import ModuleFile, parse_module
from lkm.formats.pkcs7 import signer_of
from lkm.lab.kernels import get_kernel
from lkm.lab.vm import Guest
from lkm.names import module_name_from_path
from lkm.preflight.certificates import find_certificates, verifier
from lkm.preflight.kernel import KernelExport, Loaded, Machine, Providers, Request, StructModule, Target
from lkm.preflight.values import Prediction
from tests.mutants.draw import Mutant

BASES = (
    "brd", "cordic", "dummy", "ifb", "libdes", "lru_cache", "md4", "nls_cp437", "nls_cp850", "tcp_bic",
    "tcp_westwood", "ts_bm",
)  # fmt: skip
"""Modules whose init does no harm; they are in the trees of all cloud kernels, but for a few."""

RUNNER = os.path.join(os.path.dirname(__file__), "runner.py")

FIND = """
import io, os, sys, tarfile
archive = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
for directory, _, names in os.walk(f"/lib/modules/{os.uname().release}"):
    for name in names:
        if name.partition(".")[0].replace("-", "_") in sys.argv[1:] and ".ko" in name:
            archive.add(os.path.join(directory, name), name)
archive.close()
"""

NOISE = re.compile(
    r"loading out-of-tree|module verification failed|module license|Disabling lock debugging|kernel tainted\.$"
    r"|not compiled with retpoline|inheriting taint|^BPF:|failed to validate module|BTF mismatch detected"
    r"|no extended symbol version|^lkm mark$|ignoring obsolete section|parameters '.*' after|hrtimer: interrupt took"
    r"|tainting kernel with TAINT_LIVEPATCH|from the staging directory|loading test module"
)
"""What the kernel says once, of modules that it takes, or whatever comes of the load."""


class Told(NamedTuple):
    """What the kernel did with one mutant: errno (0: it was loaded) and its lines."""

    errno: int
    lines: tuple[str, ...]


class Exports:
    """The kernel's own exports and those of a few modules."""

    def __init__(self, rows: Mapping[str, KernelExport]) -> None:
        self.rows = dict(rows)

    def find(self, name: str) -> KernelExport | None:
        return self.rows.get(name)


def fetch_modules(kernel: str) -> dict[str, bytes]:
    """The files of `BASES` that this kernel's tree has, as they are."""
    with Guest.clone(kernel) as guest:
        done = guest.run(["python3", "-c", FIND, *BASES], timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        found = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            found[str(module_name_from_path(member.name))] = decompress(stream.read(), name=member.name)
    assert "cordic" in found
    assert "libdes" in found
    return found


def target_of(kernel: str, modules: Mapping[str, bytes]) -> Target:
    """What is known of the kernel from its image, its configuration and its modules."""
    image = get_kernel(kernel, progress=print)
    with open(image.file("vmlinuz"), "rb") as stream:
        unpacked = parse_kernel_image(stream.read(), name=kernel)
    with open(image.file("config"), encoding="utf-8") as lines:
        pairs = (line.strip().partition("=") for line in lines)
        config = {
            name: value.strip('"') for name, equals, value in pairs if equals and name.startswith("CONFIG_")
        }
    parsed = {name: parse_module(data, name=name) for name, data in modules.items()}
    own = parsed["dummy"]
    signer = signer_of(own.signature.signature) if own.signature else None
    return Target(
        release=image.release,
        machine=own.machine,
        vermagic=own.vermagic,
        struct_module=StructModule(
            own.this_module.size, own.this_module.init_offset, own.this_module.exit_offset
        ),
        config=config,
        exports=_exports(unpacked, parsed, versions=config.get("CONFIG_MODVERSIONS") == "y"),
        signers=frozenset({signer} if signer else ()),
        verify=verifier(find_certificates(unpacked.data)),
        providers=Providers.LOADED,
    )


def _exports(image: KernelImage, modules: Mapping[str, ModuleFile], *, versions: bool) -> Exports:
    rows = {}
    for owner, module in modules.items():
        for e in module.exports:
            rows[e.name] = KernelExport(e.name, e.gpl, e.crc if versions else None, e.namespace, owner)
    for e in parse_image_exports(image):
        rows[e.name] = KernelExport(e.name, e.gpl, e.crc, e.namespace)
    return Exports(rows)


def write_share(directory: str, mutants: Sequence[Mutant], modules: Mapping[str, bytes]) -> None:
    """What the guest gets: the mutants, the runner, and the modules as they are."""
    for name, data in modules.items():
        _write(os.path.join(directory, f"{name}.ko"), data)
    for mutant in mutants:
        _write(os.path.join(directory, f"{mutant.id}.ko"), mutant.data)
    with open(RUNNER, "rb") as stream:
        _write(os.path.join(directory, "runner.py"), stream.read())


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)


def load_all(guest: Guest, mutants: Sequence[Mutant]) -> dict[str, Told]:
    """Loads them in the guest one after the other; those that were taken are removed again."""
    entries = json.dumps([{"file": f"{m.id}.ko", "parameters": m.parameters} for m in mutants])
    done = guest.run(["python3", "/share/runner.py", "/share"], stdin=entries.encode(), timeout=600)
    lines = done.stdout.decode().splitlines()
    died_at = mutants[len(lines)].id if len(lines) < len(mutants) else ""
    assert done.returncode == 0, (
        f"the loader died at {died_at}: {done.stderr.decode()}\n{guest.console()[-3000:]}"
    )
    found = {}
    for line in lines:
        answer = json.loads(line)
        assert answer["removed"] == 0, answer
        found[answer["file"][: -len(".ko")]] = Told(answer["errno"], tuple(answer["lines"]))
    return found


def look(guest: Guest) -> tuple[dict[str, Loaded], frozenset[str]]:
    """What is loaded, and what else has a name in /sys/module."""
    text = guest.run(["sh", "-c", "cat /proc/modules; echo; ls /sys/module"]).stdout.decode()
    modules, _, names = text.partition("\n\n")
    loaded = {}
    for line in modules.splitlines():
        fields = line.split()
        loaded[fields[0]] = Loaded("live", len(fields) > 6 and "P" in fields[6])
    return loaded, frozenset(names.split()) - set(loaded)


def as_root() -> Machine:
    """The policy of a guest in which root loads modules."""
    return Machine(
        cap_sys_module=True, modules_disabled=False, lockdown="none", sig_enforce=False, blacklist=("lkm_forbidden",)
    )  # fmt: skip


def difference(prediction: Prediction, told: Told) -> str:
    """In what the kernel differs from what was foretold; empty if in nothing."""
    wanted = prediction.errno or 0
    if wanted != told.errno:
        return f"foretold errno {wanted} {prediction.lines}, the kernel: {told.errno} {told.lines}"
    if not told.errno:
        return ""
    before = [line for problem in prediction.problems if problem.errno is None for line in problem.lines]
    lines = [
        line for line in told.lines
        if _matches_any(line, prediction.lines) or not (NOISE.search(line) or _matches_any(line, before))
    ]  # fmt: skip
    if len(lines) == len(prediction.lines) and all(map(_matches, lines, prediction.lines)):
        return ""
    return f"foretold {prediction.lines}, the kernel: {tuple(lines)}"


def _matches_any(line: str, patterns: Sequence[str]) -> bool:
    return any(_matches(line, pattern) for pattern in patterns)


def _matches(line: str, pattern: str) -> bool:
    """`*` in the pattern stands for what nobody can know."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), line) is not None


def request_of(mutant: Mutant) -> Request:
    return Request(mutant.parameters)
