// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The oops is not in init itself but two calls below it, in text that stays
 * after init: the trace names create_oops, and init only further down.
 *
 * Afterwards /proc/modules says: createoops ... 1 - Loading
 */
#include "faults.h"

static noinline void create_oops(void)
{
	oops_here();
}

static noinline void prepare(void)
{
	create_oops();
	barrier();	/* no tail call: this frame is to be in the trace */
}

static int __init createoops_init(void)
{
	pr_info("init begins\n");
	prepare();
	return 0;
}

static void __exit createoops_exit(void)
{
	pr_info("unloaded\n");
}

module_init(createoops_init);
module_exit(createoops_exit);
MODULE_DESCRIPTION("Stuck: a function that init calls stores to NULL");
MODULE_LICENSE("GPL");
