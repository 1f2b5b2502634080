// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Imports the symbol of dead_provider. Without that module the load fails with
 * ENOENT at once; with it stuck in Loading, with EBUSY after 30 seconds.
 *
 * Meanwhile /proc/modules says: symbol_waiter is not there (state unformed)
 * Afterwards: nothing, the load failed
 */
#include "faults.h"

static int __init symbol_waiter_init(void)
{
	pr_info("answer %d\n", dead_provider_answer());
	return 0;
}

static void __exit symbol_waiter_exit(void)
{
	pr_info("unloaded\n");
}

module_init(symbol_waiter_init);
module_exit(symbol_waiter_exit);
MODULE_DESCRIPTION("Waits: imports a symbol of a module whose init died");
MODULE_LICENSE("GPL");
