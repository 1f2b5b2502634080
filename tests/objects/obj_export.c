// SPDX-License-Identifier: GPL-2.0-or-later
/* Exports: to everybody, to GPL-compatible modules, in a namespace, and data. */
#include "objects.h"

int obj_export_data = 7;
EXPORT_SYMBOL(obj_export_data);

int obj_export_plain(int value)
{
	return value + obj_export_data;
}
EXPORT_SYMBOL(obj_export_plain);

int obj_export_gpl(int value)
{
	return value - obj_export_data;
}
EXPORT_SYMBOL_GPL(obj_export_gpl);

int obj_export_spaced(int value)
{
	return value * obj_export_data;
}
EXPORT_SYMBOL_NS_GPL(obj_export_spaced, SPACE);

static int __init obj_export_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit obj_export_exit(void)
{
	pr_info("unloaded\n");
}

module_init(obj_export_init);
module_exit(obj_export_exit);
MODULE_DESCRIPTION("Exports of all kinds");
MODULE_LICENSE("GPL");
