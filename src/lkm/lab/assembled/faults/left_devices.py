# SPDX-License-Identifier: MIT
"""Devices that init leaves registered: character devices, a network device, a platform driver, a hash."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from lkm.lab.assembled.faults.draft import OWNER, Draft, flag, return_error, word
from lkm.lab.assembled.language import (
    At,
    Block,
    Call,
    Function,
    If,
    Load,
    Local,
    Module,
    Object,
    Op,
    Operator,
    Parameter,
    Raw,
    Return,
    Set,
    Step,
    Store,
    Value,
    While,
    call,
    is_error,
    struct_object,
)
from lkm.lab.assembled.target import Target

__all__ = ["FAULTS", "read_text"]

ANY_MINOR = 255
"""MISC_DYNAMIC_MINOR"""
ERESTARTSYS = 512
IFF_NOARP = 0x80
NET_NAME_ENUM = 1
NO_ID = -1
"""PLATFORM_DEVID_NONE"""
ADDRESS = bytes.fromhex("026c65667430")
"""Of the network device: local, unicast."""


def left_misc(target: Target) -> Module:
    draft = Draft("left_misc", target)
    operations = {"owner": OWNER, "read": At("left_read"), "llseek": At("default_llseek")}
    return _misc(draft, "a misc device", "left-over", operations, (read_text("left over\n"),))


def left_misc_no_owner(target: Target) -> Module:
    draft = Draft("left_misc_no_owner", target)
    operations = {"read": At("left_read"), "llseek": At("default_llseek")}
    return _misc(
        draft,
        "a misc device that names no owner",
        "left-no-owner",
        operations,
        (read_text("nobody owns this\n"),),
    )


def left_holder(target: Target) -> Module:
    """The number of open files is counted without a lock: the lab's guests have one processor."""
    draft = Draft("left_holder", target)
    operations = {
        "owner": OWNER,
        "open": At("holder_open"),
        "release": At("holder_release"),
        "llseek": At("noop_llseek"),
    }
    functions = (
        Function("get_open_files", (
            call("sprintf", Local("to"), "%d\n", Load(At("open_files")), into="size"),
            Return(Local("size")),
        ), ("to", "parameter")),
        Function("holder_open", (_change("open_files", 1),), ("inode", "file")),
        Function("holder_release", (_change("open_files", -1),), ("inode", "file")),
    )  # fmt: skip
    return _misc(
        draft,
        "a device whose open files hold the module",
        "holdme",
        operations,
        functions,
        objects=(
            word("open_files"),
            struct_object("open_files_ops", "kernel_param_ops", {"get": At("get_open_files")}),
        ),
        parameters=(Parameter("open_files", "open_files_ops", "", 0o444, "", "how many files are open now"),),
    )


def left_chrdev(target: Target) -> Module:
    draft = Draft("left_chrdev", target)
    device, device_number = At("left_cdev"), Load(At("left_number"))
    wait = While(
        Load(At("block"), 1),
        (
            call("msleep_interruptible", 200, into="left", wide=True),
            If(Local("left"), (Return(-ERESTARTSYS),)),
        ),
    )
    give_back: Step = call("unregister_chrdev_region", device_number, 1)
    return draft.left(
        "a character device",
        (
            call("alloc_chrdev_region", At("left_number"), 0, 1, "leftchr", into="ret"),
            return_error("ret"),
            call("cdev_init", device, At("left_fops")),
            Store(At(device.symbol, target.btf.offset("cdev", "owner")), OWNER, 8),
            call("cdev_add", device, device_number, 1, into="ret"),
            If(Local("ret"), (give_back, Return(Local("ret")))),
        ),
        (call("cdev_del", device), give_back),
        functions=(read_text("left character device\n", before=(wait,)),),
        objects=(
            flag("block"),
            word("left_number"),
            struct_object(device.symbol, "cdev"),
            struct_object(
                "left_fops",
                "file_operations",
                {"owner": OWNER, "read": At("left_read"), "llseek": At("default_llseek")},
            ),
        ),
        parameters=(
            Parameter("block", "param_ops_bool", "block", 0o644, "bool", "1: reads sleep until a signal"),
        ),
    )


def left_netdev(target: Target) -> Module:
    draft = Draft("left_netdev", target)
    device = Local("device")
    operations = Op(device, Operator.ADD, target.btf.offset("net_device", "netdev_ops"))
    flags = Op(device, Operator.ADD, target.btf.offset("net_device", "flags"))
    setup = Function(
        "left_setup",
        (
            call("ether_setup", device),
            Store(operations, At("left_ops"), 8),
            Store(flags, Op(Load(flags), Operator.OR, IFF_NOARP)),
            *_hardware_address(target, device),
        ),
        ("device",),
    )
    transmit = Function("left_xmit", (call("consume_skb", Local("packet")),), ("packet", "device"))
    return draft.left(
        "a network device",
        (
            call(
                "alloc_netdev_mqs",
                0,
                "left%d",
                NET_NAME_ENUM,
                At("left_setup"),
                1,
                1,
                into="device",
                wide=True,
            ),
            If(Op(device, Operator.EQUAL, 0), (Return(-errno.ENOMEM),)),
            Store(At("left_device"), device, 8),
            call("register_netdev", device, into="ret"),
            If(Local("ret"), (call("free_netdev", device), Return(Local("ret")))),
        ),
        (
            call("unregister_netdev", Load(At("left_device"), 8)),
            call("free_netdev", Load(At("left_device"), 8)),
        ),
        functions=(setup, transmit),
        objects=(
            word("left_device", size=8),
            Raw("left_address", ADDRESS),
            struct_object("left_ops", "net_device_ops", {"ndo_start_xmit": At("left_xmit")}),
        ),
    )


def _hardware_address(target: Target, device: Local) -> Block:
    """The address is written by a function from 5.17 on, since it is also in a tree then."""
    address = At("left_address")
    if target.has("dev_addr_mod"):
        return (call("dev_addr_mod", device, 0, address, len(ADDRESS)),)
    place = Load(Op(device, Operator.ADD, target.btf.offset("net_device", "dev_addr")), 8)
    return (
        Store(place, Load(address, 4), 4),
        Store(Op(place, Operator.ADD, 4), Load(At(address.symbol, 4), 2), 2),
    )


def left_platform(target: Target) -> Module:
    """Before 6.11 `remove` returns a number, which is ignored: a result more does no harm."""
    draft = Draft("left_platform", target)
    device, driver = Local("device"), At("left_driver")
    inside = target.btf.offset("platform_device", "dev")
    return draft.left(
        "a platform driver with a bound device",
        (
            # 7.x adds the module's name as a third argument
            call("__platform_driver_register", driver, OWNER, "left_platform", into="ret"),
            return_error("ret"),
            call("platform_device_register_full", At("left_info"), into="device", wide=True),
            If(is_error(device), (call("platform_driver_unregister", driver), Return(device))),
            Store(At("left_device"), device, 8),
        ),
        (
            call("platform_device_unregister", Load(At("left_device"), 8)),
            call("platform_driver_unregister", driver),
        ),
        functions=(
            Function(
                "left_probe", (call("_dev_info", Op(device, Operator.ADD, inside), "bound\n"),), ("device",)
            ),
            Function(
                "left_remove",
                (call("_dev_info", Op(device, Operator.ADD, inside), "unbound\n"),),
                ("device",),
            ),
        ),
        objects=(
            word("left_device", size=8),
            struct_object("left_info", "platform_device_info", {"name": "left-plat", "id": NO_ID}),
            struct_object(
                driver.symbol,
                "platform_driver",
                {"probe": At("left_probe"), "remove": At("left_remove"), "driver.name": "left-plat"},
            ),
        ),
    )


def left_crypto(target: Target) -> Module:
    """A hash of one byte: the exclusive or of all bytes."""
    draft = Draft("left_crypto", target)
    context = Op(Local("desc"), Operator.ADD, target.btf.offset("shash_desc", "__ctx"))
    byte = Load(context, 1)
    update = Function(
        "left_update",
        (
            While(
                Local("size"),
                (
                    Store(context, Op(byte, Operator.XOR, Load(Local("data"), 1)), 1),
                    Set("data", Op(Local("data"), Operator.ADD, 1)),
                    Set("size", Op(Local("size"), Operator.SUBTRACT, 1)),
                ),
            ),
        ),
        ("desc", "data", "size"),
    )
    return draft.left(
        "a hash algorithm",
        (call("crypto_register_shash", At("left_alg"), into="ret"), return_error("ret")),
        (call("crypto_unregister_shash", At("left_alg")),),
        functions=(
            Function("left_init", (Store(context, 0, 1),), ("desc",)),
            update,
            Function("left_final", (Store(Local("out"), byte, 1),), ("desc", "out")),
        ),
        objects=(
            struct_object(
                "left_alg",
                "shash_alg",
                {
                    "init": At("left_init"), "update": At("left_update"), "final": At("left_final"),
                    "digestsize": 1, "descsize": 1,
                    "base.cra_name": b"left-hash", "base.cra_driver_name": b"left-hash-generic",
                    "base.cra_priority": 1, "base.cra_blocksize": 1, "base.cra_module": OWNER,
                },
            ),
        ),
    )  # fmt: skip


def read_text(text: str, before: Block = ()) -> Function:
    """A `read` that gives the text."""
    arguments = (Local("to"), Local("size"), Local("at"), text, len(text))
    return Function(
        "left_read",
        (
            *before,
            Call("simple_read_from_buffer", arguments, into="count", wide=True),
            Return(Local("count")),
        ),
        ("file", "to", "size", "at"),
    )


def _misc(
    draft: Draft,
    what: str,
    device: str,
    operations: Mapping[str, Value],
    functions: Sequence[Function],
    *,
    objects: Sequence[Object | Raw] = (),
    parameters: Sequence[Parameter] = (),
) -> Module:
    place = At("left_device")
    return draft.left(
        what,
        (call("misc_register", place, into="ret"), return_error("ret")),
        (call("misc_deregister", place),),
        functions=functions,
        objects=(
            *objects,
            struct_object("left_fops", "file_operations", operations),
            struct_object(
                place.symbol, "miscdevice", {"minor": ANY_MINOR, "name": device, "fops": At("left_fops")}
            ),
        ),
        parameters=parameters,
    )


def _change(variable: str, by: int) -> Store:
    return Store(At(variable), Op(Load(At(variable)), Operator.ADD, by))


FAULTS = (left_misc, left_misc_no_owner, left_holder, left_chrdev, left_netdev, left_platform, left_crypto)
