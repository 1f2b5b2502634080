// SPDX-License-Identifier: GPL-2.0-or-later
/* Imports from three other modules, one symbol of them in a namespace; one of the modules is the kernel's own. */
#include <linux/cordic.h>

#include "objects.h"

static int __init obj_import_init(void)
{
	pr_info("%d %d %d %d\n", obj_export_plain(1), obj_export_gpl(9), obj_export_spaced(2),
		obj_library_twice(obj_export_data));
	pr_info("%d\n", cordic_calc_iq(CORDIC_FIXED(0)).i > 0);
	return 0;
}

static void __exit obj_import_exit(void)
{
}

module_init(obj_import_init);
module_exit(obj_import_exit);
MODULE_IMPORT_NS(SPACE);
MODULE_DESCRIPTION("Stands on two other modules");
MODULE_LICENSE("Dual MIT/GPL");
