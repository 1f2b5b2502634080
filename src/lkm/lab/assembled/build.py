# SPDX-License-Identifier: MIT
"""Files of the faults for a kernel of the lab, assembled and kept in the cache."""

from __future__ import annotations

import os

from lkm.lab.assembled.assemble import assemble_module
from lkm.lab.assembled.faults import fault_set
from lkm.lab.assembled.target import Target, get_target
from lkm.lab.cache import Progress, cache_dir, content_key, intact, locked, publish, silent, write_manifest
from lkm.lab.kernels import get_kernel

__all__ = ["assemble_faults", "assembled_modules"]


def assembled_modules(kernel: str, *, progress: Progress = silent) -> list[str]:
    """The paths of the `.ko` files of all faults for `kernel`, sorted. No compiler and no headers are needed.

    Raises LabError where the kernel has no BTF, or does not export what a fault needs.
    """
    image = get_kernel(kernel, progress=progress)
    files = assemble_faults(get_target(image, progress=progress))
    home = os.path.join(
        cache_dir("modules"), content_key(image.release, image.version, sorted(files.items()))
    )
    with locked(f"modules-{os.path.basename(home)[:2]}"):
        if not intact(home):
            with publish(home) as scratch:
                for name, data in files.items():
                    with open(os.path.join(scratch, name), "wb") as stream:
                        stream.write(data)
                write_manifest(scratch, {"release": image.release})
    return [os.path.join(home, name) for name in sorted(files)]


def assemble_faults(target: Target) -> dict[str, bytes]:
    """Every fault for this kernel: the name of its file, and the file."""
    modules = fault_set(target)
    provided = [export.function for module in modules for export in module.exports]
    return {f"{module.name}.ko": assemble_module(module, target, provided=provided) for module in modules}
