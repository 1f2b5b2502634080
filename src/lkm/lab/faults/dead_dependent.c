// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stands on provider, and its init dies in an oops. So provider, which is
 * healthy, cannot be removed either: the dead one has to be rescued first.
 *
 * Afterwards /proc/modules says: dead_dependent ... 1 - Loading
 * and of the other:              provider ... 1 dead_dependent, Live
 */
#include "faults.h"

static int __init dead_dependent_init(void)
{
	pr_info("answer %d\n", provider_answer());
	oops_here();
	return 0;
}

static void __exit dead_dependent_exit(void)
{
	pr_info("unloaded\n");
}

module_init(dead_dependent_init);
module_exit(dead_dependent_exit);
MODULE_DESCRIPTION("Stuck: depends on provider, and init dies in an oops");
MODULE_LICENSE("GPL");
