// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A counter that no sum of holders explains, as after a stray write. The exit
 * is sound and should run in the end.
 *
 * Afterwards /proc/modules says: absurd_count ... 1073741823 - Live
 */
#include "faults.h"
#include <linux/atomic.h>

static int count = 0x3fffffff;
module_param(count, int, 0444);
MODULE_PARM_DESC(count, "the count to show (default 0x3fffffff)");

static int __init absurd_count_init(void)
{
#ifdef CONFIG_MODULE_UNLOAD
	/* One is the base of the counter, one the loader gives back after us. */
	atomic_set(&THIS_MODULE->refcnt, count + 2);
#endif
	pr_info("count set to %d\n", count);
	return 0;
}

static void __exit absurd_count_exit(void)
{
	pr_info("unloaded\n");
}

module_init(absurd_count_init);
module_exit(absurd_count_exit);
MODULE_DESCRIPTION("Stuck: the count is overwritten");
MODULE_LICENSE("GPL");
