// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init takes an hour. In every file this looks like a module whose loader died
 * (Loading, count 1), but the loader lives, asleep in D state with this init on
 * its stack, and will go on: it must be left alone.
 *
 * Meanwhile /proc/modules says: slow_init ... 1 - Loading
 * Afterwards:                   slow_init ... 0 - Live
 */
#include "faults.h"
#include <linux/delay.h>

static unsigned int seconds = 3600;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "how long init sleeps (default 3600); no signal ends it");

static int __init slow_init_init(void)
{
	pr_info("sleeps %u s\n", seconds);
	msleep(seconds * 1000);
	pr_info("loaded\n");
	return 0;
}

static void __exit slow_init_exit(void)
{
	pr_info("unloaded\n");
}

module_init(slow_init_init);
module_exit(slow_init_exit);
MODULE_DESCRIPTION("Slow: the loader lives, asleep in init");
MODULE_LICENSE("GPL");
