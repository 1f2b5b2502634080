// SPDX-License-Identifier: GPL-2.0-or-later
/* A file in /proc/sys: the kernel has a header for its table, in a tree of such headers. */
#include "reach.h"
#include <linux/sysctl.h>

static int reach_value = 7;

static struct ctl_table reach_entries[] = {
	{
		.procname = "reach_value",
		.data = &reach_value,
		.maxlen = sizeof(reach_value),
		.mode = 0644,
		.proc_handler = proc_dointvec,
	},
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	{ }
#endif
};

static struct ctl_table_header *reach_header;

static int __init reach_table_init(void)
{
	reach_header = register_sysctl("dev/reach", reach_entries);
	if (!reach_header)
		return -ENOMEM;
	die_if_asked();
	return 0;
}

static void __exit reach_table_exit(void)
{
	unregister_sysctl_table(reach_header);
}

module_init(reach_table_init);
module_exit(reach_table_exit);
MODULE_DESCRIPTION("A file in /proc/sys");
MODULE_LICENSE("GPL");
