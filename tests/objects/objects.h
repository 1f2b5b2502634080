/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the modules in here share. */
#ifndef OBJECTS_H
#define OBJECTS_H

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/version.h>

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

/* The argument is a string from 6.13 on. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define SPACE "LKM_OBJECTS"
#else
#define SPACE LKM_OBJECTS
#endif

int obj_export_plain(int value);
int obj_export_gpl(int value);
int obj_export_spaced(int value);
extern int obj_export_data;
int obj_library_twice(int value);

#endif
