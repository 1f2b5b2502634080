# SPDX-License-Identifier: MIT
"""What is known of the kernel that a module is to be loaded into; None where something is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, Optional, Protocol

__all__ = [
    "Exports",
    "KernelExport",
    "Loaded",
    "Machine",
    "Providers",
    "Request",
    "StructModule",
    "Target",
    "Verdict",
]


class KernelExport(NamedTuple):
    """A symbol that modules may import. `owner` is the module that has it, "" for the kernel itself.

    `crc` is None where it is not known or the kernel has no MODVERSIONS.
    """

    name: str
    gpl: bool
    crc: Optional[int]
    namespace: str = ""
    owner: str = ""


class Exports(Protocol):
    """Where symbols are looked up: of the kernel itself and of the modules of its tree."""

    def find(self, name: str) -> Optional[KernelExport]:
        """Who exports `name`; None for nobody."""


class StructModule(NamedTuple):
    """`sizeof(struct module)` and where `init` and `exit` stand in it, as the kernel's own modules have it."""

    size: int
    init_offset: Optional[int] = None
    exit_offset: Optional[int] = None


class Loaded(NamedTuple):
    """A module in the kernel's list. `state` as in /sys/module/X/initstate; `proprietary` its taint P."""

    state: str = "live"
    proprietary: bool = False
    exports: Optional[frozenset[str]] = None


class Providers(Enum):
    """What holds for symbols of modules that are not loaded.

    LOADED   insmod: who is not loaded provides nothing
    ON_DISK  modprobe: dependencies are loaded first
    """

    LOADED = "loaded"
    ON_DISK = "on-disk"


class Verdict(Enum):
    """What becomes of a signature that is verified.

    HOLDS           the module is what was signed
    CHANGED         it is not
    UNVERIFIED      there is the certificate, but not the library, or it does not know that kind of signature
    NO_CERTIFICATE  there is none of that signer
    """

    HOLDS = "holds"
    CHANGED = "changed"
    UNVERIFIED = "unverified"
    NO_CERTIFICATE = "no-certificate"


class Machine(NamedTuple):
    """What the machine allows; None: not known, which is so for a kernel that is not running."""

    cap_sys_module: Optional[bool] = None
    modules_disabled: Optional[bool] = None
    lockdown: Optional[str] = None
    sig_enforce: Optional[bool] = None
    blacklist: Optional[tuple[str, ...]] = None


class Target(NamedTuple):
    """The kernel to be loaded into.

    release        `uname -r`
    machine        e_machine of its modules
    vermagic       what it compares vermagic with
    struct_module  None: no module of its own was found to go by
    config         CONFIG_… → value; empty: unknown
    exports        who exports what; None: unknown
    sources        where exports come from, in words
    loaded         by name, as far as it is running
    sysfs_names    names in /sys/module that no loaded module has: built-in ones
    signers        (issuer, serial number) of the certificates that signed its own modules, as DER
    verify         verifies a module's bytes and its message by the certificates that there are; None: there are none
    strict_versions  whether a symbol that `__versions` lacks is refused: Debian's patch; None: taken for so
    policy         see `Machine`
    providers      see `Providers`
    """

    release: str
    machine: int
    vermagic: Optional[str] = None
    struct_module: Optional[StructModule] = None
    config: Mapping[str, str] = {}
    exports: Optional[Exports] = None
    sources: tuple[str, ...] = ()
    loaded: Mapping[str, Loaded] = {}
    sysfs_names: frozenset[str] = frozenset()
    signers: frozenset[bytes] = frozenset()
    verify: Optional[Callable[[bytes, bytes], Verdict]] = None
    strict_versions: Optional[bool] = None
    policy: Machine = Machine()
    providers: Providers = Providers.LOADED

    def option(self, name: str) -> Optional[bool]:
        """Whether a `CONFIG_` option is on; None if the configuration is not known."""
        return self.config.get(f"CONFIG_{name}") == "y" if self.config else None


class Request(NamedTuple):
    """How it would be loaded: parameters as one string, and what --force-vermagic and --force-modversions set
    (MODULE_INIT_IGNORE_VERMAGIC, MODULE_INIT_IGNORE_MODVERSIONS). `unpacked`: by init_module, of memory."""

    parameters: str = ""
    ignore_vermagic: bool = False
    ignore_modversions: bool = False
    unpacked: bool = False
