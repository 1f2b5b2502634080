// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Init reads a member of a structure through a pointer that is NULL, as a
 * driver does whose look-up failed and was not checked.
 *
 * Afterwards /proc/modules says: kerneloops ... 1 - Loading
 */
#include "faults.h"

struct settings {
	char name[16];
	int level;
};

static struct settings *find_settings(void)
{
	struct settings *volatile found = NULL;

	return found;
}

static int __init kerneloops_init(void)
{
	pr_info("level %d\n", READ_ONCE(find_settings()->level));
	return 0;
}

static void __exit kerneloops_exit(void)
{
	pr_info("unloaded\n");
}

module_init(kerneloops_init);
module_exit(kerneloops_exit);
MODULE_DESCRIPTION("Stuck: init reads through a NULL pointer");
MODULE_LICENSE("GPL");
