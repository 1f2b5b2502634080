// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The oldest way to get stuck: init says hello and dies in an oops. The task
 * that loaded the module is gone, nobody gives its reference back or moves the
 * state on. There is an exit, but the kernel never gets as far as calling it.
 *
 * Afterwards /proc/modules says: bug_mod1 ... 1 - Loading
 */
#include "faults.h"

static int __init bug_mod1_init(void)
{
	pr_info("init begins\n");
	oops_here();
	pr_info("never printed\n");
	return 0;
}

static void __exit bug_mod1_exit(void)
{
	pr_info("unloaded\n");
}

module_init(bug_mod1_init);
module_exit(bug_mod1_exit);
MODULE_DESCRIPTION("Stuck: init dies in an oops");
MODULE_LICENSE("GPL");
