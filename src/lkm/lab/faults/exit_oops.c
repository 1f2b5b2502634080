// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exit dies in an oops. The first rmmod is killed; the module stays half
 * removed, and a second rmmod gets EBUSY.
 *
 * After the load /proc/modules says: exit_oops ... 0 - Live
 * After the rmmod:                   exit_oops ... -1 - Unloading
 */
#include "faults.h"

static int __init exit_oops_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit exit_oops_exit(void)
{
	pr_info("exit begins\n");
	oops_here();
}

module_init(exit_oops_init);
module_exit(exit_oops_exit);
MODULE_DESCRIPTION("Stuck on removal: exit dies in an oops");
MODULE_LICENSE("GPL");
