# SPDX-License-Identifier: MIT
"""init_module(2), finit_module(2), delete_module(2): each in a child with a deadline, its errno as a value.

What is itself such a child and has nothing to go on with, as the classic tools, calls by
`lkm.system.direct_calls`.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Optional, Union

from lkm.errors import KernelCallError, NoLoadableModules
from lkm.system.child import run_in_child
from lkm.system.direct_calls import prepare_call, syscall_numbers

__all__ = [
    "O_NONBLOCK",
    "CallResult",
    "delete_module",
    "finit_module",
    "init_module",
    "syscall_numbers",
]

O_NONBLOCK = os.O_NONBLOCK

_ENOSYS = 38


class CallResult(NamedTuple):
    """How a call ended.

    errno      0: it succeeded; otherwise 1 to 4095 (a module's own init may return any of them)
    signal     what killed the caller: 9 after an oops in the module, 11 after a BUG; then errno is 0
    timed_out  it had not returned at the deadline; then errno is 0, and it may be going on in `pid`
    """

    errno: int = 0
    signal: Optional[int] = None
    timed_out: bool = False
    pid: int = 0

    @property
    def ok(self) -> bool:
        """Whether the call returned, and with success."""
        return not self.errno and self.signal is None and not self.timed_out


def init_module(image: bytes, params: str = "", *, seconds: float, kill: bool = True) -> CallResult:
    """Load a module from memory. `kill=False` leaves a load that outlives `seconds` to go on."""
    return _call("init_module", (image, len(image), params.encode()), seconds=seconds, kill=kill)


def finit_module(
    file: Union[str, int], params: str = "", flags: int = 0, *, seconds: float, kill: bool = True
) -> CallResult:
    """Load a module from a path or an open descriptor. OSError if the path cannot be opened."""
    handle = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        arguments = (handle, params.encode(), flags)
        return _call("finit_module", arguments, seconds=seconds, kill=kill, keep=(handle,))
    finally:
        if handle is not file:
            os.close(handle)


def delete_module(name: str, flags: int = O_NONBLOCK, *, seconds: float, kill: bool = True) -> CallResult:
    """Remove a module. `kill=False` leaves a removal that outlives `seconds` to go on."""
    return _call("delete_module", (name.encode(), flags), seconds=seconds, kill=kill)


def _call(
    name: str,
    arguments: tuple[Union[int, bytes], ...],
    *,
    seconds: float,
    kill: bool,
    keep: tuple[int, ...] = (),
) -> CallResult:
    call = prepare_call(name, arguments)
    label = "lkm-" + name.split("_", maxsplit=1)[0]
    result = run_in_child(call, seconds=seconds, name=label, kill=kill, keep=keep)
    if result.timed_out or result.signal is not None:
        return CallResult(signal=result.signal, timed_out=result.timed_out, pid=result.pid)
    if not result.ok:
        raise KernelCallError(f"{name} could not be called: {result.error}")
    errno = int(result.value)
    if errno == _ENOSYS:
        _explain_enosys(name)
    return CallResult(errno=errno, pid=result.pid)


def _explain_enosys(name: str) -> None:
    """A module's init may return ENOSYS of its own; otherwise the kernel was built without the call."""
    if not os.path.exists("/proc/modules"):  # a look at the name takes no lock
        raise NoLoadableModules
    if name == "delete_module":
        raise KernelCallError(
            "this kernel cannot unload modules (CONFIG_MODULE_UNLOAD is off)", errno=_ENOSYS, remedy="reboot"
        )
