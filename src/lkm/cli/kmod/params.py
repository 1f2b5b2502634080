# SPDX-License-Identifier: MIT
"""Parameters of a module on a command line."""

from __future__ import annotations

__all__ = ["join_params"]


def join_params(params: list[str]) -> str:
    """Parameters as the kernel takes them: a value with a space is put in double quotes, unless it has some."""
    return " ".join(map(_quoted, params))


def _quoted(param: str) -> str:
    name, equals, value = param.partition("=")
    if equals and " " in value and value[0] not in "\"'":
        return f'{name}="{value}"'
    return param
