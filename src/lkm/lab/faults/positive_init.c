// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init returns 7. The kernel warns with a stack trace that looks like an oops
 * ("should follow 0/-E convention"), and then keeps the module: it is healthy.
 *
 * Afterwards /proc/modules says: positive_init ... 0 - Live
 */
#include "faults.h"

static int __init positive_init_init(void)
{
	pr_info("returns 7\n");
	return 7;
}

static void __exit positive_init_exit(void)
{
	pr_info("unloaded\n");
}

module_init(positive_init_init);
module_exit(positive_init_exit);
MODULE_DESCRIPTION("Healthy: init returns a positive number");
MODULE_LICENSE("GPL");
