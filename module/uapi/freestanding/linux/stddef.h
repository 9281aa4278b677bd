/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flexible array in a struct, for C++. The kernel's own header wraps it into a struct with an empty
 * member, which has a size in C++: structs grow, and with them the numbers of their ioctls.
 */
#pragma once
#include <linux/compiler.h>

#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]

#define __struct_group(TAG, NAME, ATTRS, MEMBERS...)                                               \
	union {                                                                                    \
		struct {                                                                           \
			MEMBERS                                                                    \
		} ATTRS;                                                                           \
		struct TAG {                                                                       \
			MEMBERS                                                                    \
		} ATTRS NAME;                                                                      \
	}
