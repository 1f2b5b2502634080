# SPDX-License-Identifier: MIT
"""Files and file systems that init leaves registered."""

from __future__ import annotations

import errno

from lkm.lab.assembled.faults.draft import OWNER, Draft, return_error, word
from lkm.lab.assembled.faults.left_devices import read_text
from lkm.lab.assembled.language import (
    At,
    Function,
    If,
    Load,
    Local,
    Module,
    Object,
    Op,
    Operator,
    Return,
    Store,
    Value,
    call,
    struct_object,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS"]

MAGIC = 0x1EF7F5
FOPS: dict[str, Value] = {"owner": OWNER, "read": At("left_read"), "llseek": At("default_llseek")}


def left_proc(target: Target) -> Module:
    draft = Draft("left_proc", target)
    operations = At("left_ops")
    undo = (
        call("remove_proc_subtree", "left_dir", 0),
        call("remove_proc_entry", "left_entry", 0),
    )
    failed = (*undo, Return(-errno.ENOMEM))
    return draft.left(
        "entries in /proc",
        (
            call("proc_create", "left_entry", 0o444, 0, operations, into="entry", wide=True),
            If(Op(Local("entry"), Operator.EQUAL, 0), (Return(-errno.ENOMEM),)),
            call("proc_mkdir", "left_dir", 0, into="dir", wide=True),
            If(Op(Local("dir"), Operator.EQUAL, 0), failed),
            call("proc_create", "entry", 0o444, Local("dir"), operations, into="entry", wide=True),
            If(Op(Local("entry"), Operator.EQUAL, 0), failed),
        ),
        undo,
        functions=(read_text("left proc entry\n"),),
        objects=(
            struct_object(
                operations.symbol,
                "proc_ops",
                {"proc_read": At("left_read"), "proc_lseek": At("default_llseek")},
            ),
        ),
    )


def left_debugfs(target: Target) -> Module:
    """debugfs_create_file became a macro with 6.14: what it calls takes one pointer more."""
    draft = Draft("left_debugfs", target)
    directory = Local("dir")
    if target.has("debugfs_create_file_full"):
        create = call("debugfs_create_file_full", "entry", 0o444, directory, 0, 0, At("left_fops"))
    else:
        create = call("debugfs_create_file", "entry", 0o444, directory, 0, At("left_fops"))
    return draft.left(
        "a file in debugfs",
        (
            call("debugfs_create_dir", "left_debugfs", 0, into="dir", wide=True),
            Store(At("left_dir"), directory, 8),
            create,
        ),
        (call("debugfs_remove", Load(At("left_dir"), 8)),),
        functions=(read_text("left debugfs entry\n"),),
        objects=(word("left_dir", size=8), struct_object("left_fops", "file_operations", FOPS)),
    )


def left_fs(target: Target) -> Module:
    """kill_litter_super went away with 6.19. In the table of files the index is the inode number: 1 is the root."""
    draft = Draft("left_fs", target)
    fill = Function(
        "left_fill_super",
        (
            call("simple_fill_super", Local("sb"), MAGIC, At("left_files"), into="ret"),
            Return(Local("ret")),
        ),
        ("sb", "context"),
    )
    get_tree = Function(
        "left_get_tree",
        (call("get_tree_nodev", Local("context"), At(fill.name), into="ret"), Return(Local("ret"))),
        ("context",),
    )
    place = Op(Local("context"), Operator.ADD, target.btf.offset("fs_context", "ops"))
    init_context = Function("left_init_fs_context", (Store(place, At("left_context_ops"), 8),), ("context",))
    files: tuple[dict[str, Value], ...] = (
        {},
        {},
        {"name": "left", "ops": At("left_fops"), "mode": 0o444},
        {"name": ""},
    )
    kill = target.first("kill_litter_super", "kill_anon_super")
    return draft.left(
        "a file system type",
        (call("register_filesystem", At("left_type"), into="ret"), return_error("ret")),
        (call("unregister_filesystem", At("left_type")),),
        functions=(read_text("left file system\n"), fill, get_tree, init_context),
        objects=(
            struct_object("left_fops", "file_operations", FOPS),
            Object("left_files", "tree_descr", files),
            struct_object("left_context_ops", "fs_context_operations", {"get_tree": At(get_tree.name)}),
            struct_object(
                "left_type",
                "file_system_type",
                {
                    "owner": OWNER,
                    "name": "leftfs",
                    "init_fs_context": At(init_context.name),
                    "kill_sb": At(kill),
                },
            ),
        ),
    )


FAULTS = (left_proc, left_debugfs, left_fs)
