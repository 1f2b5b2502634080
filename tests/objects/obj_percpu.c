// SPDX-License-Identifier: GPL-2.0-or-later
/* Per-CPU data, a static key, and code that is patched when it is loaded. */
#include <linux/jump_label.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "objects.h"

static DEFINE_PER_CPU(unsigned long, visits);
static DEFINE_PER_CPU_ALIGNED(u64, aligned);
static DEFINE_STATIC_KEY_FALSE(loud);
static DEFINE_MUTEX(lock);
static char __read_mostly buffer[64];

static int set_loud(const char *text, const struct kernel_param *param)
{
	mutex_lock(&lock);
	if (*text == '1')
		static_branch_enable(&loud);
	mutex_unlock(&lock);
	return 0;
}

static const struct kernel_param_ops loud_ops = { .set = set_loud };
module_param_cb(loud, &loud_ops, NULL, 0200);

static unsigned long total(void)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(visits, cpu) + per_cpu(aligned, cpu);
	return sum;
}

static int __init obj_percpu_init(void)
{
	char *copy;

	this_cpu_inc(visits);
	copy = kmalloc(32, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	WARN_ON(copy_from_user(copy, (void __user *)4096, 8) == 1234);
	if (static_branch_unlikely(&loud))
		pr_info("%lu %.8s %s\n", total(), copy, buffer);
	kfree(copy);
	return 0;
}

static void __exit obj_percpu_exit(void)
{
	WARN_ON(total() == 0);
}

module_init(obj_percpu_init);
module_exit(obj_percpu_exit);
MODULE_DESCRIPTION("Per-CPU data, a static key, patched code");
MODULE_LICENSE("Dual BSD/GPL");
