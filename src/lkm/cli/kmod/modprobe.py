# SPDX-License-Identifier: MIT
"""modprobe: load a module with all that it needs, remove it, or say what that would be.

The kernel starts it for each module that it asks for, so what one kind of command line needs is imported only for
that.
"""

from __future__ import annotations

import os

from lkm.cli.kmod import log
from lkm.cli.kmod.common import CommandLine, print_version
from lkm.cli.kmod.modprobe_job import Ended, Job
from lkm.cli.kmod.options import Arguments
from lkm.tree.tree import Tree

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run", "split_environment"]

SCHEMA = "lkm.modprobe/1"
SHORT = "arw:RibfDcnC:d:S:sqvVh"
LONG = {
    "all": "a",
    "remove": "r",
    "remove-dependencies": "remove-holders",
    "remove-holders": "remove-holders",
    "wait=": "w",
    "resolve-alias": "R",
    "first-time": "first-time",
    "ignore-install": "i",
    "ignore-remove": "i",
    "use-blacklist": "b",
    "force": "f",
    "force-modversion": "force-modversion",
    "force-vermagic": "force-vermagic",
    "show-depends": "D",
    "showconfig": "c",
    "show-config": "c",
    "show-modversions": "modversions",
    "dump-modversions": "modversions",
    "show-exports": "exports",
    "dry-run": "n",
    "show": "n",
    "config=": "C",
    "dirname=": "d",
    "set-version=": "S",
    "syslog": "s",
    "quiet": "q",
    "verbose": "v",
    "version": "V",
    "help": "h",
}
OWN = {"all-softdeps": "all-softdeps", "json": "json"}
HELP = f"""\
Usage:
	%s [options] [-i] [-b] NAME [PARAM=VALUE...]
	modprobe [options] -a [-i] [-b] NAME...
	modprobe [options] -r [-i] NAME...
	modprobe [options] -D|-R|-c|--show-modversions|--show-exports [NAME|FILE]
Loading and removing:
	-a, --all                load every NAME; go on after a failure
	-r, --remove             remove, and what nobody uses afterwards
	    --remove-holders     with -r: first the modules that use it
	-w, --wait=MSEC          with -r: try again for so long while it is in use
	    --first-time         fail if there is nothing to do
	-i, --ignore-install, --ignore-remove
	                         do not run install and remove commands of NAME
	-b, --use-blacklist      do not load what is blacklisted, by its name either
	-f, --force              load in spite of versions (both below); remove in spite of users
	    --force-modversion   load in spite of other symbol versions
	    --force-vermagic     load in spite of another version magic
	    --all-softdeps       honour every softdep of a module, not its first alone
	-n, --dry-run, --show    do nothing; with -v say what would be done
Asking:
	-D, --show-depends       print the commands that would load NAME
	-R, --resolve-alias      print the names of the modules that NAME stands for
	-c, --showconfig, --show-config
	                         print the configuration, the aliases and the symbols
	    --show-modversions, --dump-modversions
	                         print the symbol versions that FILE was built with
	    --show-exports       print the symbol versions that FILE exports
Where and how:
	-C, --config=FILE        use this file or directory in place of modprobe.d; may be repeated
	-d, --dirname=DIR        use DIR as the root of /lib/modules
	-S, --set-version=VERSION
	                         use VERSION in place of `uname -r`
	-s, --syslog             messages to syslog, not to stderr
	-q, --quiet              no messages
	-v, --verbose            more messages
	    --json               one JSON object, schema {SCHEMA}
	-V, --version            print the version
	-h, --help               print this help
Deprecated: --remove-dependencies is --remove-holders.
"""


def run(argv: list[str]) -> int:
    """Do what the command line says. Options in $MODPROBE_OPTIONS come before those of the command line."""
    words = split_environment(os.environ.get("MODPROBE_OPTIONS", ""))
    line = _read([*words, *argv])
    if line is None:
        return 0
    wait = _read_wait(line)
    if wait is None:
        return 1
    _tell_children(line)
    syslog = line.syslog or not _has_stderr()
    log.open_log(level=log.WARNING, syslog=syslog)
    if not line.operands and not line.has("c"):
        log.error("missing parameters. See -h.")
        return 1
    job = Job(_open_tree(line), line)
    job.wait_ms = wait
    log.open_log(level=log.WARNING)
    for problem in job.tree.config.problems:  # kmod tells them with -q too, and never to syslog
        log.error(problem)
    log.open_log(level=log.EMERG if line.has("q") else log.WARNING + line.verbose, syslog=syslog)
    try:
        code = _dispatch(job, line)
    except Ended:
        code = 1
    if job.json and not line.has("c"):
        import json

        log.write(json.dumps({"schema": SCHEMA, "actions": job.actions}, indent=1) + "\n")
    return code


def _dispatch(job: Job, line: CommandLine) -> int:
    names = line.operands
    if line.has("c"):
        return _show_config(job)
    if line.has("modversions") or line.has("exports"):
        from lkm.cli.kmod.modprobe_show import show_symbols

        return show_symbols(job, names[0], exports=not line.has("modversions"))
    if line.has("r"):
        from lkm.cli.kmod.modprobe_remove import remove_all

        return 0 if remove_all(job, names) else 1
    from lkm.cli.kmod.modprobe_insert import insert, insert_all
    from lkm.cli.kmod.params import join_params

    if line.has("a"):
        return 0 if insert_all(job, names) else 1
    return 1 if insert(job, names[0], join_params(names[1:])) else 0


def _show_config(job: Job) -> int:
    from lkm.cli.kmod.modprobe_show import config_object, show_config

    if job.json:
        import json

        log.write(json.dumps({"schema": SCHEMA, **config_object(job.tree)}, indent=1) + "\n")
    else:
        show_config(job.tree)
    job.tell_problems()
    return 0


def _open_tree(line: CommandLine) -> Tree:
    """The tree of -d and -S; the configuration is this machine's in any case, or that of -C."""
    paths = [value for key, value in line.options if key == "C"]
    root, release = line.value("d"), line.value("S") or os.uname().release
    directory = os.path.join(os.getcwd(), f"{root}/lib/modules/{release}") if root or line.has("S") else ""
    return Tree("/", release, directory=directory, config_paths=paths or None)


def _read_wait(line: CommandLine) -> int | None:
    """Milliseconds of -w, as strtoul(3) reads them; None, said so, if it is none."""
    text = line.value("w", "0")
    try:
        if "_" in text or text.lstrip("+-")[:2].lower() in {"0b", "0o"}:  # Python's own
            raise ValueError(text)
        return int(text, 8 if len(text) > 1 and text[0] == "0" and text.isdecimal() else 0)
    except ValueError:
        log.error(f"unexpected wait value '{text}'.")
        return None


def _read(words: list[str]) -> CommandLine | None:
    """The command line, all options in their order; None if --help or --version was answered."""
    arguments = Arguments(words, SHORT, LONG, OWN)
    options = []
    for key, value in arguments:
        if key == "h":
            log.write(HELP % log.program())
            return None
        if key == "V":
            print_version()
            return None
        options.append((key, value))
    keys = [key for key, _ in options]
    return CommandLine(options, arguments.operands, verbose=keys.count("v"), syslog="s" in keys)


def _tell_children(line: CommandLine) -> None:
    """What commands of the configuration that call modprobe again shall know, in the environment."""
    words = [os.environ["MODPROBE_OPTIONS"]] if "MODPROBE_OPTIONS" in os.environ else []
    for key, value in line.options:
        if key in {"C", "q", "s", "v"}:
            words += [f"-{key}", value] if value else [f"-{key}"]
    if words:
        os.environ["MODPROBE_OPTIONS"] = " ".join(words)


def _has_stderr() -> bool:
    try:
        os.fstat(2)
    except OSError:
        return False
    return True


def split_environment(text: str) -> list[str]:
    """The words of $MODPROBE_OPTIONS: between blanks that are not quoted; a quote that nothing closes is a letter."""
    words: list[str] = []
    word = ""
    begun = False
    at = 0
    while at < len(text):
        letter = text[at]
        end = text.find(letter, at + 1) if letter in "\"'" else -1
        if end >= 0:
            word += text[at + 1 : end]
            begun = True
            at = end
        elif letter == " ":
            if begun or word:
                words.append(word)
            word, begun = "", False
        else:
            word += letter
        at += 1
    return [*words, word] if begun or word else words
