// SPDX-License-Identifier: GPL-2.0-only
#define pr_fmt(format) "kvmpp: " format

#include <linux/printk.h>
#include <linux/ratelimit.h>
#include "host/seam.h"

void kvmpp_log(enum kvmpp_log_level level, const char *format, ...)
{
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 20);
	struct va_format line;
	va_list arguments;

	if (!__ratelimit(&limit))
		return;
	va_start(arguments, format);
	line.fmt = format;
	line.va = &arguments;
	if (level == KVMPP_LOG_ERROR)
		pr_err("%pV\n", &line);
	else
		pr_info("%pV\n", &line);
	va_end(arguments);
}

void kvmpp_format(char *to, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(to, size, format, arguments);
	va_end(arguments);
}
