/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the modules left_*: init registers something, then dies in an oops, so
 * that what it registered is left over and points into the module. With die=0
 * the same module is healthy, and its exit undoes everything.
 */
#ifndef LKM_LAB_LEFT_H
#define LKM_LAB_LEFT_H

#include "faults.h"

static bool die = true;
module_param(die, bool, 0444);
MODULE_PARM_DESC(die, "1: init dies after it registered (default); 0: it succeeds");

static __always_inline void die_if_asked(void)
{
	if (die)
		oops_here();
}

#endif
