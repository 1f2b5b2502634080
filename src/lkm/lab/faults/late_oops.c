// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init sleeps for a while and then dies in an oops: time for a second load of
 * the same file, which since 6.5 waits for the first one, and for ever.
 *
 * Meanwhile and afterwards /proc/modules says: late_oops ... 1 - Loading
 */
#include "faults.h"
#include <linux/delay.h>

static unsigned int seconds = 5;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "how long init sleeps (default 5); no signal ends it");

static int __init late_oops_init(void)
{
	pr_info("sleeps %u s\n", seconds);
	msleep(seconds * 1000);
	oops_here();
	return 0;
}

static void __exit late_oops_exit(void)
{
	pr_info("unloaded\n");
}

module_init(late_oops_init);
module_exit(late_oops_exit);
MODULE_DESCRIPTION("Stuck: init sleeps, then dies in an oops");
MODULE_LICENSE("GPL");
