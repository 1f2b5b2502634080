// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Healthy, and others stand on it: it exports one symbol to everybody and one
 * to GPL modules only. It cannot be removed before its dependents.
 *
 * Afterwards /proc/modules says: provider ... 0 - Live
 * and with a dependent:          provider ... 1 dependent, Live
 */
#include "faults.h"

int provider_answer(void)
{
	return 42;
}
EXPORT_SYMBOL(provider_answer);

int provider_answer_gpl(void)
{
	return 43;
}
EXPORT_SYMBOL_GPL(provider_answer_gpl);

static int __init provider_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit provider_exit(void)
{
	pr_info("unloaded\n");
}

module_init(provider_init);
module_exit(provider_exit);
MODULE_DESCRIPTION("Healthy: exports two symbols");
MODULE_LICENSE("GPL");
