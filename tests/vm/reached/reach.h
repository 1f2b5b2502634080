/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef REACH_H
#define REACH_H

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/version.h>

static bool reach_dies;
module_param_named(die, reach_dies, bool, 0444);
MODULE_PARM_DESC(die, "1: init dies after it registered; 0: it succeeds (default)");

static __always_inline void die_if_asked(void)
{
	if (reach_dies)
		*(volatile int *)8 = 0;
}

#endif
