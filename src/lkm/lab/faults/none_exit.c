// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An exit function was written but never registered: the module_exit() line is
 * missing. For the kernel that is a module with no exit.
 *
 * Afterwards /proc/modules says: none_exit ... 0 [permanent], Live
 */
#include "faults.h"

static int __init none_exit_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit __maybe_unused none_exit_exit(void)
{
	pr_info("never called\n");
}

module_init(none_exit_init);
/* module_exit(none_exit_exit) was forgotten here */
MODULE_DESCRIPTION("Stuck: the exit function is not registered, permanent");
MODULE_LICENSE("GPL");
