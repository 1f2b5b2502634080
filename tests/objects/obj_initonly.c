// SPDX-License-Identifier: GPL-2.0-or-later
/* An init and no exit: it stays, unless it is forced out. */
#include "objects.h"

static int __initdata first = 1;

static int __init obj_initonly_init(void)
{
	pr_info("loaded %d\n", first);
	return 0;
}

module_init(obj_initonly_init);
MODULE_DESCRIPTION("An init and no exit");
MODULE_LICENSE("GPL");
