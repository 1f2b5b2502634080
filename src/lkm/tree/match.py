# SPDX-License-Identifier: MIT
"""`Match`: a module that a look-up has found, and how."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.formats.modprobe_conf import Directive

__all__ = [
    "FROM_ALIAS",
    "FROM_BUILTIN",
    "FROM_BUILTIN_ALIAS",
    "FROM_COMMAND",
    "FROM_CONFIG",
    "FROM_NAME",
    "FROM_SYMBOL",
    "Match",
]

FROM_CONFIG = "alias in the configuration"
FROM_NAME = "name"
FROM_SYMBOL = "symbol"
FROM_COMMAND = "command in the configuration"
FROM_ALIAS = "alias"
FROM_BUILTIN = "built in"
FROM_BUILTIN_ALIAS = "alias of what is built in"


class Match:
    """One answer of a look-up: never changed once it is made.

    name     the module's
    alias    what led to it, "" if that was its name: the alias that was asked for, but the configuration's
             pattern if it was one of those
    source   one of the FROM_ words
    command  the install or remove command by which the name is known
    """

    __slots__ = ("alias", "command", "name", "source")

    def __init__(self, name: str, alias: str, source: str, *, command: Directive | None = None) -> None:
        self.name = name
        self.alias = alias
        self.source = source
        self.command = command

    @property
    def builtin(self) -> bool:
        """Whether it is known to be a part of the kernel."""
        return self.source in {FROM_BUILTIN, FROM_BUILTIN_ALIAS}

    def __repr__(self) -> str:
        return f"Match({self.name!r}, {self.alias!r}, {self.source!r})"
