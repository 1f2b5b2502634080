// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Healthy, stands on slow_provider. Loaded while that one's init still sleeps,
 * it waits and then loads; when the sleep outlasts 30 seconds it gets EBUSY.
 *
 * Afterwards /proc/modules says: slow_dependent ... 0 - Live
 * and of the other:              slow_provider ... 1 slow_dependent, Live
 */
#include "faults.h"

static int __init slow_dependent_init(void)
{
	pr_info("answer %d\n", slow_provider_answer());
	return 0;
}

static void __exit slow_dependent_exit(void)
{
	pr_info("unloaded\n");
}

module_init(slow_dependent_init);
module_exit(slow_dependent_exit);
MODULE_DESCRIPTION("Healthy: depends on slow_provider");
MODULE_LICENSE("GPL");
