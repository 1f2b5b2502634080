// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two faults, one behind the other: a leaked reference keeps rmmod away from
 * an exit that dies in an oops. To repair the count alone, and let the exit
 * run, leads straight into the second fault.
 *
 * After the load /proc/modules says: exit_oops_leak ... 1 - Live
 * After rmmod -f:                    exit_oops_leak ... 1 - Unloading
 * With the count repaired and rmmod: exit_oops_leak ... -1 - Unloading
 */
#include "faults.h"

static int __init exit_oops_leak_init(void)
{
	__module_get(THIS_MODULE);
	pr_info("leaked one\n");
	return 0;
}

static void __exit exit_oops_leak_exit(void)
{
	pr_info("exit begins\n");
	oops_here();
}

module_init(exit_oops_leak_init);
module_exit(exit_oops_leak_exit);
MODULE_DESCRIPTION("Stuck: a leaked reference, and an exit that dies in an oops");
MODULE_LICENSE("GPL");
