// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A healthy module whose file has a dash in its name. The kernel knows it as
 * dash_name; tools must find it under either spelling.
 *
 * Afterwards /proc/modules says: dash_name ... 0 - Live
 */
#include "faults.h"

static int level = 1;
module_param(level, int, 0644);
MODULE_PARM_DESC(level, "does nothing: something to set on the command line");

static int __init dash_name_init(void)
{
	pr_info("loaded, level %d\n", level);
	return 0;
}

static void __exit dash_name_exit(void)
{
	pr_info("unloaded\n");
}

module_init(dash_name_init);
module_exit(dash_name_exit);
MODULE_DESCRIPTION("Healthy: a dash in the file name, an underscore in the module name");
MODULE_LICENSE("GPL");
