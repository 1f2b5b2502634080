// SPDX-License-Identifier: GPL-2.0-or-later
/* One of two files of a module; the init. */
#include <linux/list.h>

#include "objects.h"
#include "obj_parts.h"

LIST_HEAD(obj_parts_list);

static int __init obj_parts_init(void)
{
	obj_parts_add(41);
	obj_parts_add(42);
	return obj_parts_count() == 2 ? 0 : -EINVAL;
}

static void __exit obj_parts_exit(void)
{
	obj_parts_clear();
}

module_init(obj_parts_init);
module_exit(obj_parts_exit);
MODULE_DESCRIPTION("Of two files");
MODULE_LICENSE("GPL and additional rights");
