/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two files of obj_parts share. */
#ifndef OBJ_PARTS_H
#define OBJ_PARTS_H

#include <linux/list.h>

extern struct list_head obj_parts_list;

void obj_parts_add(int value);
int obj_parts_count(void);
void obj_parts_clear(void);

#endif
