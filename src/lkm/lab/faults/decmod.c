// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A healthy module: it loads, does nothing, and unloads. The one to compare
 * the others with.
 *
 * Afterwards /proc/modules says: decmod ... 0 - Live
 */
#include "faults.h"

static int __init decmod_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit decmod_exit(void)
{
	pr_info("unloaded\n");
}

module_init(decmod_init);
module_exit(decmod_exit);
MODULE_DESCRIPTION("Healthy: loads and unloads");
MODULE_LICENSE("GPL");
