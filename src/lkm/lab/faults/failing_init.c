// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init returns an error: ENODEV, or what the parameter says. The loader gets
 * that very number, so it need not mean what it means to the module code.
 *
 * Afterwards /proc/modules says nothing: the module is gone
 * (with code=0 or above: failing_init ... 0 - Live)
 */
#include "faults.h"

static int code = -ENODEV;
module_param(code, int, 0444);
MODULE_PARM_DESC(code, "what init returns (default -19, ENODEV)");

static int __init failing_init_init(void)
{
	pr_info("returns %d\n", code);
	return code;
}

static void __exit failing_init_exit(void)
{
	pr_info("unloaded\n");
}

module_init(failing_init_init);
module_exit(failing_init_exit);
MODULE_DESCRIPTION("Fails: init returns an error of your choice");
MODULE_LICENSE("GPL");
