// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init but no exit: the kernel takes the module for one that must not be
 * removed, and refuses with EBUSY although nothing uses it.
 *
 * Afterwards /proc/modules says: bug_mod2 ... 0 [permanent], Live
 */
#include "faults.h"

static int __init bug_mod2_init(void)
{
	pr_info("loaded for good\n");
	return 0;
}

module_init(bug_mod2_init);
MODULE_DESCRIPTION("Stuck: init but no exit, permanent");
MODULE_LICENSE("GPL");
