// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exports a symbol, and its init dies in an oops. A module that imports the
 * symbol (symbol_waiter) waits 30 seconds for this init to end, then fails.
 * Rescue with a waiter about needs care: made Live, it would be taken up.
 *
 * Afterwards /proc/modules says: dead_provider ... 1 - Loading
 */
#include "faults.h"

int dead_provider_answer(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(dead_provider_answer);

static int __init dead_provider_init(void)
{
	pr_info("init begins\n");
	oops_here();
	return 0;
}

static void __exit dead_provider_exit(void)
{
	pr_info("unloaded\n");
}

module_init(dead_provider_init);
module_exit(dead_provider_exit);
MODULE_DESCRIPTION("Stuck: exports a symbol, and init dies in an oops");
MODULE_LICENSE("GPL");
