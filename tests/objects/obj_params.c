// SPDX-License-Identifier: GPL-2.0-or-later
/* Parameters of several types, and a version, which brings srcversion. */
#include "objects.h"

static int number = 3;
module_param(number, int, 0644);
MODULE_PARM_DESC(number, "a number");

static char *word = "none";
module_param(word, charp, 0444);

static bool flag;
module_param_named(switch, flag, bool, 0);

static unsigned int many[4];
static int count;
module_param_array(many, uint, &count, 0444);

static int set_odd(const char *text, const struct kernel_param *param)
{
	int result = param_set_int(text, param);

	return result ? result : (*(int *)param->arg & 1 ? 0 : -EINVAL);
}

static const struct kernel_param_ops odd_ops = { .set = set_odd, .get = param_get_int };
static int odd = 1;
module_param_cb(odd, &odd_ops, &odd, 0644);

static int __init obj_params_init(void)
{
	pr_info("%d %s %d %u %d\n", number, word, flag, many[0], odd);
	return number < 0 ? -EINVAL : 0;
}

static void __exit obj_params_exit(void)
{
}

module_init(obj_params_init);
module_exit(obj_params_exit);
MODULE_AUTHOR("nobody");
MODULE_ALIAS("obj-parameters");
MODULE_VERSION("1.2");
MODULE_SOFTDEP("pre: obj_library");
MODULE_DESCRIPTION("Parameters");
MODULE_LICENSE("GPL");
