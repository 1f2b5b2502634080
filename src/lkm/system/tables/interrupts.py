# SPDX-License-Identifier: MIT
"""Interrupt handlers: the actions of each struct irq_desc (kernel/irq/irqdesc.c).

The descriptors are in the radix tree `irq_desc_tree` until 6.4, in the maple tree `sparse_irqs` since 6.5
(721255b9826b "genirq: Use a maple tree for interrupt descriptor management"). The numbers come from
/proc/irq, a directory of its own: /proc/interrupts reads the names, which a freed module leaves dangling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.files import list_directory
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners, describe, owned_pointer, read_guarded
from lkm.system.snapshot import Registration, RegistrationKind
from lkm.system.tables.trees import maple_load, xarray_load

__all__ = ["interrupt_names", "read_interrupts"]

_MAX_ACTIONS = 256
_FIELDS = ("handler", "thread_fn", "dev_id", "name")


def read_interrupts(root: Root, memory: KernelMemory, owners: Owners) -> Iterator[Registration]:
    """Actions whose handler, thread, cookie or name lies in a module."""
    action_at, link = memory.offset("irq_desc", "action"), memory.offset("irqaction", "next")
    size, name = memory.sizeof("irqaction"), memory.offset("irqaction", "name")
    load, tree = _tree(memory)
    missing = []
    numbers = sorted(int(each) for each in list_directory(root.join("/proc/irq")) if each.isdigit())
    for number in numbers:
        descriptor = load(memory, tree, number)
        if not descriptor:
            missing.append(number)
            continue
        first = memory.pointer(descriptor + action_at)
        for action in memory.chain(first, offset=link, what=f"irq {number}", limit=_MAX_ACTIONS):
            data = memory.read(action, size)
            pointer = owned_pointer(memory, owners, "irqaction", data, _FIELDS)
            if pointer:
                yield Registration(
                    RegistrationKind.INTERRUPT,
                    memory.text(int.from_bytes(data[name : name + 8], "little"), f"irq {number}"),
                    pointer.module,
                    certain=True,
                    source="irq_desc in kernel memory",
                    detail=f"irq {number}, {describe(memory, pointer)}",
                    address=action,
                    size=size,
                )
    if missing and len(missing) == len(numbers):
        raise LkmError("none of the interrupts in /proc/irq has a descriptor in kernel memory")


def _tree(memory: KernelMemory) -> tuple[Callable[[KernelMemory, int, int], int], int]:
    """The tree of descriptors, and how to look up in it."""
    tree = memory.symbols.address("sparse_irqs")
    return (maple_load, tree) if tree else (xarray_load, memory.symbol("irq_desc_tree"))


def interrupt_names(root: Root) -> Iterator[tuple[str, str]]:
    """Name and detail of each action in /proc/interrupts: the last column, names separated by commas."""
    for line in read_guarded(root, "/proc/interrupts").splitlines():
        label, _, rest = line.strip().partition(":")
        words = rest.split()
        while words and words[0].isdigit():
            words.pop(0)
        names = " ".join(words).split(", ")
        if not label.isdigit() or not words:
            continue
        yield names[0].split()[-1], f"irq {label}"  # the chip and the trigger stand before the first name
        for name in names[1:]:
            yield name, f"irq {label}"
