# SPDX-License-Identifier: MIT
"""The kernel's command line: options of modules and `modprobe.blacklist`, as modprobe takes them from it.

`mod.param`, `mod.param=value`, `mod.param="a b"`, and what grub makes of that, `"mod.param=a b"`. Source: kmod 34,
libkmod/libkmod-config.c, kmod_config_parse_kcmdline; it reads 4095 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.formats.modprobe_conf import BadName, Directive, conf_name

__all__ = ["parse_command_line", "parse_initcall_blacklist", "parse_module_blacklist"]

_SIZE = 4095
_SPACES = " \n\t\v\f\r"


def parse_command_line(data: bytes, *, file: str = "/proc/cmdline") -> list[Directive]:
    """What it says of modules, as directives `options` and `blacklist`; one without a command for a bad name."""
    found: list[Directive] = []
    for word in _words(data[:_SIZE].decode("utf-8", "surrogateescape").partition("\0")[0]):
        quoted = word.startswith('"')
        name, dot, option = word[quoted:].partition(".")
        parameter, _, value = option.partition("=")
        if not dot or _has_any(name, '"=' + _SPACES) or _has_any(parameter, '".' + _SPACES):
            continue
        if quoted:  # the quote belongs before the value
            option = f'{parameter}="{value}'
        found += _directives(name, option, file)
    return found


def parse_module_blacklist(text: str) -> tuple[str, ...]:
    """The names of `module_blacklist=` as they stand: `blacklisted` (kernel/module/main.c, 6.1) tells `-` from `_`.

    The last one counts: it is a core_param.
    """
    values = [*_values(text, "module_blacklist")]
    return tuple(values[-1].split(",")) if values else ()


def parse_initcall_blacklist(text: str) -> tuple[str, ...]:
    """The functions of every `initcall_blacklist=` (`initcall_blacklist`, init/main.c, 6.1); each counts.

    They are not called, neither at boot nor as the init of a loadable module (`do_one_initcall`); it takes
    CONFIG_KALLSYMS.
    """
    return tuple(name for value in _values(text, "initcall_blacklist") for name in value.split(",") if name)


def _values(text: str, wanted: str) -> Iterator[str]:
    """What an option of the kernel's own is set to, each time.

    A quote may be before the name or the value, and what follows `--` is for the first program (parse_args,
    kernel/params.c; next_arg, lib/cmdline.c; 6.1).
    """
    for word in _words(text + '"' * (text.count('"') % 2)):
        if word == "--":
            break
        name, equals, value = word.strip('"').partition("=")
        if equals and name.replace("-", "_") == wanted:
            yield value.strip('"')


def _words(text: str) -> list[str]:
    """What stands between white space that is not quoted; nothing from a quote on that is not closed."""
    words = []
    begin = 0
    quoted = False
    for at, letter in enumerate(text + "\n"):
        if letter == '"':
            quoted = not quoted
        elif letter in _SPACES and not quoted:
            words.append(text[begin:at])
            begin = at + 1
    return words


def _has_any(text: str, letters: str) -> bool:
    return any(letter in text for letter in letters)


def _directives(name: str, option: str, file: str) -> list[Directive]:
    if name == "modprobe" and option.startswith("blacklist="):
        return [Directive("blacklist", each, "", file=file) for each in option[10:].split(",")]
    try:
        return [Directive("options", conf_name(name), option.replace("\t", " "), file=file)]
    except BadName:
        problem = f"Ignoring bad option on kernel command line while parsing module name: '{name}'"
        return [Directive("", "", "", file=file, problem=problem)]
