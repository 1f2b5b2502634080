// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Healthy, stands on provider: loads after it, and must be removed before it.
 *
 * Afterwards /proc/modules says: dependent ... 0 - Live
 * and of the other:              provider ... 1 dependent, Live
 */
#include "faults.h"

static int __init dependent_init(void)
{
	pr_info("answers %d and %d\n", provider_answer(), provider_answer_gpl());
	return 0;
}

static void __exit dependent_exit(void)
{
	pr_info("unloaded\n");
}

module_init(dependent_init);
module_exit(dependent_exit);
MODULE_DESCRIPTION("Healthy: depends on provider");
MODULE_LICENSE("GPL");
