// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves an interrupt handler: left-irq in /proc/interrupts. Line 5 is free on
 * a PC without a sound card; a line in use will do only if its user shares it.
 * Once the module is freed, the first look at /proc/interrupts is an oops with
 * the lock of that line held, and the second freezes the machine.
 *
 * Afterwards /proc/modules says: left_irq ... 1 - Loading
 * with die=0:                    left_irq ... 0 - Live
 */
#include "left.h"
#include <linux/interrupt.h>

static unsigned int irq = 5;
module_param(irq, uint, 0444);
MODULE_PARM_DESC(irq, "the line to request (default 5)");

static irqreturn_t left_handler(int line, void *cookie)
{
	return IRQ_NONE;
}

static int __init left_irq_init(void)
{
	int ret = request_irq(irq, left_handler, IRQF_SHARED, "left-irq", THIS_MODULE);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_irq_exit(void)
{
	free_irq(irq, THIS_MODULE);
}

module_init(left_irq_init);
module_exit(left_irq_exit);
MODULE_DESCRIPTION("Leaves an interrupt handler");
MODULE_LICENSE("GPL");
