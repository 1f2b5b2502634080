// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Healthy but slow: exports a symbol, and its init sleeps. A module that
 * imports the symbol waits; up to 30 seconds that ends well.
 *
 * Meanwhile /proc/modules says: slow_provider ... 1 - Loading
 * Afterwards:                   slow_provider ... 0 - Live
 */
#include "faults.h"
#include <linux/delay.h>

static unsigned int seconds = 10;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "how long init sleeps (default 10); no signal ends it");

int slow_provider_answer(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(slow_provider_answer);

static int __init slow_provider_init(void)
{
	pr_info("sleeps %u s\n", seconds);
	msleep(seconds * 1000);
	pr_info("loaded\n");
	return 0;
}

static void __exit slow_provider_exit(void)
{
	pr_info("unloaded\n");
}

module_init(slow_provider_init);
module_exit(slow_provider_exit);
MODULE_DESCRIPTION("Slow: exports a symbol, init sleeps first");
MODULE_LICENSE("GPL");
