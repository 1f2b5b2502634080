# SPDX-License-Identifier: MIT
"""The messages of small boots with initcall_debug, and the initcalls of their kernels."""

from __future__ import annotations

from lkm.boot.initcall import Initcall, Level

TABLE = (
    Initcall(Level.CONSOLE, 1, "con_init", module="vt"),
    Initcall(Level.SECURITY, 1, "selinux_init", module="selinux"),
    Initcall(Level.EARLY, 1, "init_real_mode", module="init"),
    Initcall(Level.SUBSYS, 2, "acpi_init", module="acpi"),
    Initcall(Level.FS, 3, "xenbus_init", module="xenbus"),
    Initcall(Level.DEVICE, 4, "serial8250_init", module="8250"),
    Initcall(Level.DEVICE, 5, "xenbus_init", module="xenbus_dev_frontend"),
    Initcall(Level.DEVICE, 6, "late_device", module="late_device"),
    Initcall(Level.LATE, 7, "esrt_sysfs_init", module="esrt"),
    Initcall(Level.LATE, 8, "left_out", module="left_out"),
)

SPACE = " "
LOG = f"""\
<5>[    0.000000] Linux version 7.3.4-test (somebody@somewhere) #1 SMP
<7>[    0.000000] entering initcall level: console
<7>[    0.000000] calling  con_init+0x0/0x260 @ 0
<7>[    0.001000] initcall con_init+0x0/0x260 returned 0 after 1000 usecs
<7>[    0.100000] calling  init_real_mode+0x0/0x21e @ 1
<7>[    0.104000] initcall init_real_mode+0x0/0x21e returned 0 after 0 usecs
<7>[    0.200000] calling  acpi_init+0x0/0x5a0 @ 1
<7>[    0.532000] initcall acpi_init+0x0/0x5a0 returned 0 after 332000 usecs
<7>[    0.600000] calling  xenbus_init+0x0/0x340 @ 1
<7>[    0.600020] initcall xenbus_init+0x0/0x340 returned -19 after 12 usecs
<7>[    0.700000] calling  serial8250_init+0x0/0x1f0 @ 1
<7>[    0.710000] calling  4_probe_later+0x0/0x80 @ 77
<7>[    0.948764] probe of 00:02 with driver serial returned 0 after 248000 usecs
<7>[    0.949000] probe of 00:03 with driver other returned 517 after 10 usecs
<7>[    0.949500] initcall 4_probe_later+0x0/0x80 returned after 239000 usecs
<7>[    0.950000] initcall serial8250_init+0x0/0x1f0 returned 0 after 249900 usecs
<7>[    0.960000] calling  xenbus_init+0x0/0x3f @ 1
<7>[    0.960010] initcall xenbus_init+0x0/0x3f returned -517 after 8 usecs
<7>[    0.970000] calling  late_device+0x0/0x10 @ 1
<7>[    0.970500] initcall late_device+0x0/0x10 returned 0 after 500 usecs
<4>[    0.970600] initcall late_device+0x0/0x10 returned with preemption imbalance disabled interrupts{SPACE}
<7>[    0.980000] calling  esrt_sysfs_init+0x0/0x2f8 @ 1
<7>[    0.980030] initcall esrt_sysfs_init+0x0/0x2f8 returned -38 after 19 usecs
<7>[    0.985000] initcall left_out blacklisted
<6>[    1.000000] Run /init as init process
<7>[    1.500000] calling  virtio_blk_init+0x0/0x1000 [virtio_blk] @ 93
<7>[    1.900000] initcall virtio_blk_init+0x0/0x1000 [virtio_blk] returned 0 after 400000 usecs
"""
