// SPDX-License-Identifier: GPL-2.0-or-later
/* Neither init nor exit: a library. */
#include "objects.h"

int obj_library_twice(int value)
{
	return 2 * value;
}
EXPORT_SYMBOL_GPL(obj_library_twice);

MODULE_DESCRIPTION("A library");
MODULE_LICENSE("GPL v2");
