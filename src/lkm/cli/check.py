# SPDX-License-Identifier: MIT
"""Say whether modules would load, here or on another kernel: what insmod would get, what the kernel would print,
why, and what to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NamedTuple

from lkm.cli.arguments import quoted_parameter
from lkm.cli.chosen_kernel import choose_kernel
from lkm.cli.files import check_named_file, is_path, read_named_bytes
from lkm.cli.prediction import prediction_as_object, prediction_lines
from lkm.errors import LkmError, UsageError
from lkm.formats.pkcs7 import parse_certificates
from lkm.names import module_name_from_path
from lkm.preflight.certificates import can_verify
from lkm.preflight.files import read_module_file
from lkm.preflight.kernel import Providers, Request, Target, Verdict
from lkm.preflight.many import check_files
from lkm.preflight.needs import Need, find_needs
from lkm.preflight.read import read_target
from lkm.preflight.values import Prediction
from lkm.root import Root
from lkm.tree.tree import Tree

__all__ = ["configure", "run"]

SCHEMA = "lkm.check/1"
REMEDY = "name a module file (.ko), or a module of a kernel's tree (--kernel, --tree)"


class Subject(NamedTuple):
    """A file to be judged; `built_in` names a module that needs no file."""

    name: str
    path: str
    built_in: bool = False


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `lkm check`."""
    parser.add_argument(
        "modules", metavar="FILE|NAME", nargs="*", help="module files, or names of the kernel's tree"
    )
    parser.add_argument(
        "--kernel", metavar="RELEASE", default="", help="another kernel that is installed here"
    )
    parser.add_argument("--tree", metavar="DIR", default="", help="look for lib/modules and boot below DIR")
    parser.add_argument("--all", action="store_true", help="every module of the kernel's tree")
    parser.add_argument(
        "--param",
        metavar="P=VALUE",
        action="append",
        default=[],
        help="a parameter to load with (repeatable)",
    )
    parser.add_argument(
        "--dependencies", action="store_true",
        help="take dependencies for loaded, as modprobe does (names and other kernels: always)",
    )  # fmt: skip
    parser.add_argument(
        "--symvers", metavar="FILE", default="", help="the kernel's exports, from a Module.symvers"
    )
    parser.add_argument(
        "--cert", metavar="FILE", action="append", default=[],
        help="a certificate (PEM or DER) that the kernel trusts as well, to verify signatures with (repeatable)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help=f"one JSON object, schema {SCHEMA}")


def run(arguments: argparse.Namespace) -> int:
    """Check; 0: all would load, 1: one would not, or that cannot be told."""
    if bool(arguments.modules) == arguments.all:
        raise UsageError("name module files or modules, or give --all")
    if arguments.symvers:
        check_named_file(arguments.symvers, remedy="--symvers names a Module.symvers")
    root, live = choose_kernel(arguments.kernel, arguments.tree)
    by_name = arguments.all or not all(is_path(word) or os.path.isfile(word) for word in arguments.modules)
    on_disk = arguments.dependencies or by_name or not live
    target = read_target(
        root,
        live=live,
        providers=Providers.ON_DISK if on_disk else Providers.LOADED,
        symvers=arguments.symvers,
        certificates=tuple(der for path in arguments.cert for der in _certificates(path)),
    )
    tree = Tree(root)
    subjects = _all_of(tree, root) if arguments.all else [_subject(tree, word) for word in arguments.modules]
    request = Request(" ".join(map(quoted_parameter, arguments.param)))
    results = _check(subjects, target, request)
    failed = [prediction for _, prediction in results if prediction.loads is not True]
    needs = {} if arguments.all else {s.path: _needs(s, target, tree) for s in subjects}
    if arguments.json:
        print(json.dumps({
            "schema": SCHEMA, "release": target.release, "sources": list(target.sources),
            "modules": [
                {"path": s.path, **prediction_as_object(p), "needs": [n._asdict() for n in needs.get(s.path, ())]}
                for s, p in results
            ],
        }, indent=1))  # fmt: skip
    else:
        shown = [(s, p) for s, p in results if p.loads is not True] if arguments.all else results
        for subject, prediction in shown:
            print("\n".join(prediction_lines(prediction, subject.path)))
            if arguments.cert and prediction.signature is Verdict.HOLDS:
                print("  its signature holds: it is what was signed, by a key that this kernel trusts")
            for need in needs.get(subject.path, ()):
                print(f"  needs {need.module}{' (loaded)' if need.loaded else ''}{_symbols_of(need)}")
        if arguments.all:
            print(f"{len(results)} modules, {len(failed)} would not load into {target.release}")
        if target.exports is None:
            print("note: this kernel's exports are not known (--symvers FILE names them)", file=sys.stderr)
    return 1 if failed else 0


def _certificates(path: str) -> tuple[bytes, ...]:
    """Those in a file that is given; LkmError where nothing could be verified with them."""
    data = read_named_bytes(path, remedy="name a certificate, as PEM or DER")
    if not can_verify():
        raise LkmError(
            "--cert takes the Python package cryptography, which is not here",
            remedy="install python3-cryptography",
        )
    return parse_certificates(data, name=path)


def _all_of(tree: Tree, root: Root) -> list[Subject]:
    subjects = [Subject(name, path) for name, path in sorted(tree.paths().items())]
    if not os.path.isdir(root.modules_dir):
        remedy = "name another kernel (--kernel), or where its tree is (--tree)"
        raise LkmError(f"there is no {root.modules_dir}", remedy=remedy)
    if not subjects:
        raise LkmError(
            f"{root.modules_dir} has no modules.dep",
            remedy=f"make it: lkm depmod -b {root.path} {root.release}",
        )
    return subjects


def _subject(tree: Tree, word: str) -> Subject:
    if is_path(word) or os.path.isfile(word):
        if os.path.isfile(word) or not os.path.exists(word):  # of a directory is foretold what insmod gets
            check_named_file(word, remedy=REMEDY)
        return Subject(module_name_from_path(word.rstrip("/")), word)
    for match in tree.lookup(word) if tree.is_name(word) else ():
        path = tree.path(match.name)
        if path:
            return Subject(match.name, path)
        if tree.is_builtin(match.name):
            return Subject(match.name, "", built_in=True)
    if not os.path.isdir(tree.directory):
        raise UsageError(f"there is no {tree.directory} in which to look for {word!r}", remedy=REMEDY)
    raise UsageError(f"no module {word!r} below {tree.directory}", remedy=REMEDY)


def _needs(subject: Subject, target: Target, tree: Tree) -> tuple[Need, ...]:
    if subject.built_in:
        return ()
    try:
        return find_needs(read_module_file(subject.path).data, target, tree)
    except LkmError:
        return ()  # the prediction says what is wrong with the file


def _symbols_of(need: Need) -> str:
    if not need.symbols:
        return ""
    more = f" and {len(need.symbols) - 3} more" if len(need.symbols) > 3 else ""
    return f", which has {', '.join(need.symbols[:3])}{more}"


def _check(subjects: list[Subject], target: Target, request: Request) -> list[tuple[Subject, Prediction]]:
    """Each with its prediction; what is built in needs no file."""
    predictions = iter(check_files([s.path for s in subjects if not s.built_in], target, request))
    found = []
    for subject in subjects:
        prediction = Prediction(subject.name, target.release) if subject.built_in else next(predictions)
        found.append((subject, prediction if prediction.module else prediction._replace(module=subject.name)))
    return found
