/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the faulty modules share: the way to die, and the symbols they import
 * from each other. Include it first: it sets the prefix of the messages.
 */
#ifndef LKM_LAB_FAULTS_H
#define LKM_LAB_FAULTS_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/version.h>

/*
 * A store to address 0 in the caller's own text. The pointer is volatile, so
 * the compiler can neither drop the store nor turn it into a trap; and unlike
 * BUG() it is what a real driver does.
 */
static __always_inline void oops_here(void)
{
	int *volatile nowhere = NULL;

	*nowhere = 1;
}

/* provider.c */
int provider_answer(void);
int provider_answer_gpl(void);

/* dead_provider.c */
int dead_provider_answer(void);

/* slow_provider.c */
int slow_provider_answer(void);

#endif
