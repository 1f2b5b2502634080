// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One module_put() too many. The counter starts at 1 for an idle module, shown
 * as 0; here it is 0, shown as -1, while the state is Live. The next plain
 * rmmod then dies in a BUG with the lock of all modules held. Look first!
 *
 * In init the module gives back `count` references; later, each write to the
 * parameter `put` gives back one more (with count=0 the fault is made only
 * then). The kernel stops at 0: a put below it only warns.
 *
 * Afterwards /proc/modules says: put_too_many ... -1 - Live
 */
#include "faults.h"

static unsigned int count = 1;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many references init gives back (default 1)");

static int put_one(const char *value, const struct kernel_param *kp)
{
	module_put(THIS_MODULE);
	return 0;
}

static const struct kernel_param_ops put_ops = { .set = put_one };
module_param_cb(put, &put_ops, NULL, 0200);
MODULE_PARM_DESC(put, "each write gives back one reference");

static int __init put_too_many_init(void)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		module_put(THIS_MODULE);
	pr_info("gave back %u\n", count);
	return 0;
}

static void __exit put_too_many_exit(void)
{
	pr_info("unloaded\n");
}

module_init(put_too_many_init);
module_exit(put_too_many_exit);
MODULE_DESCRIPTION("Stuck: a negative count, one module_put() too many");
MODULE_LICENSE("GPL");
