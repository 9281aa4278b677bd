/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
#include <linux/compiler_types.h>
#ifndef __always_inline
#define __always_inline inline __attribute__((__always_inline__))
#endif
