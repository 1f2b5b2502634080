# SPDX-License-Identifier: MIT
"""Linux kernel modules from Python.

General layout, in the order in which data flows:

    formats/    bytes → values         pure: no files, no system calls
    system/     the OS → a Snapshot    the only code that touches /proc, /sys, kcore, system calls
    tree/       a /lib/modules/R       what is on disk: indexes, modprobe.d, look-up, depmod
    diagnosis/  Snapshot → findings    why will it not unload? who holds it?   pure
    rescue/     findings → plan → edits → proof     the dangerous part
    lab/        virtual machines with real kernels
    cli/        values → text, JSON; one file a command

`errors` has the tree of exceptions, `names` the type of a module's name, `root` where files are read.
Nothing is imported here, so that `lkm list` starts fast: import the module you need. `lkm.Tree` is
`lkm.tree.tree.Tree`, imported when it is asked for.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.tree.tree import Tree

__all__ = ["Tree", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Tree":
        from lkm.tree.tree import Tree

        return Tree
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
