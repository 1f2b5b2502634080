// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init takes references on its own module and never gives them back, as an
 * error path does that forgets module_put(). Nothing holds the module, no file
 * names a holder, and the exit is sound: it should run in the end.
 *
 * Afterwards /proc/modules says: leak_ref ... 1 - Live (the value of count)
 */
#include "faults.h"

static unsigned int count = 1;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many references to leak (default 1)");

static int __init leak_ref_init(void)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		__module_get(THIS_MODULE);
	pr_info("leaked %u\n", count);
	return 0;
}

static void __exit leak_ref_exit(void)
{
	pr_info("unloaded\n");
}

module_init(leak_ref_init);
module_exit(leak_ref_exit);
MODULE_DESCRIPTION("Stuck: holds references on itself that nobody will give back");
MODULE_LICENSE("GPL");
