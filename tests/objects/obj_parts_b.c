// SPDX-License-Identifier: GPL-2.0-or-later
/* The other one: the work, and an export. */
#include <linux/slab.h>

#include "objects.h"
#include "obj_parts.h"

struct item {
	struct list_head list;
	int value;
};

static const char format[] = "%d\n";

void obj_parts_add(int value)
{
	struct item *item = kzalloc(sizeof(*item), GFP_KERNEL);

	if (item) {
		item->value = value;
		list_add(&item->list, &obj_parts_list);
	}
}

int obj_parts_count(void)
{
	struct item *item;
	int count = 0;

	list_for_each_entry(item, &obj_parts_list, list) {
		printk(format, item->value);
		count++;
	}
	return count;
}
EXPORT_SYMBOL(obj_parts_count);

void obj_parts_clear(void)
{
	struct item *item, *next;

	list_for_each_entry_safe(item, next, &obj_parts_list, list) {
		list_del(&item->list);
		kfree(item);
	}
}
