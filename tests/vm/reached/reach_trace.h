/* SPDX-License-Identifier: GPL-2.0-or-later */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM reach

#if !defined(REACH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define REACH_TRACE_H

#include <linux/tracepoint.h>

#ifndef REACH_SIZE
#define REACH_SIZE REACH_SIZE
enum { REACH_SIZE = 8 };
#endif
TRACE_DEFINE_ENUM(REACH_SIZE);

TRACE_EVENT(reach_begun,
	TP_PROTO(int number),
	TP_ARGS(number),
	TP_STRUCT__entry(__field(int, number)),
	TP_fast_assign(__entry->number = number;),
	TP_printk("number=%d", __entry->number)
);

TRACE_EVENT(reach_ended,
	TP_PROTO(int number, const char *word),
	TP_ARGS(number, word),
	TP_STRUCT__entry(__field(int, number) __array(char, word, REACH_SIZE)),
	TP_fast_assign(__entry->number = number; strscpy(__entry->word, word, 8);),
	TP_printk("number=%d word=%s", __entry->number, __entry->word)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE reach_trace
#include <trace/define_trace.h>
