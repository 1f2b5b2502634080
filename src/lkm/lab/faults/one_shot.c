// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module that does its work in init and does not want to stay: it fails on
 * purpose, and the kernel frees it at once. The loader sees ECANCELED.
 *
 * Afterwards /proc/modules says nothing: the module is gone
 */
#include "faults.h"

static int __init one_shot_init(void)
{
	pr_info("done\n");
	return -ECANCELED;
}

module_init(one_shot_init);
MODULE_DESCRIPTION("Healthy: does its work in init, then fails on purpose");
MODULE_LICENSE("GPL");
