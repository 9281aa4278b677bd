/* SPDX-License-Identifier: GPL-2.0-only */
/* UAPI headers name __user; outside the kernel's own C it means nothing. */
#pragma once
#define __user
