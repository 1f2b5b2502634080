// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What people do by hand, to compare with: a helper that is compiled for one
 * kernel, finds the module by its name and makes it one that rmmod takes. It
 * looks at no task, checks no old value and takes no lock. Its init returns an
 * error on purpose, so that it does not stay.
 */
#include <linux/list.h>
#include <linux/module.h>
#include <linux/string.h>

static char *name = "";
module_param(name, charp, 0400);
MODULE_PARM_DESC(name, "the module to make removable");

static int __init force_rmmod_init(void)
{
	struct module *stuck;

	/* No kernel exports find_module any more. The head of the list, which is
	 * no module, is passed too: no name is there. */
	list_for_each_entry(stuck, &THIS_MODULE->list, list) {
		if (strncmp(stuck->name, name, MODULE_NAME_LEN))
			continue;
		stuck->init = NULL;
		stuck->exit = NULL;
		atomic_set(&stuck->refcnt, 1);
		stuck->state = MODULE_STATE_LIVE;
		return -ECANCELED;
	}
	return -ENOENT;
}

module_init(force_rmmod_init);
MODULE_DESCRIPTION("Makes a stuck module removable");
MODULE_LICENSE("GPL");
