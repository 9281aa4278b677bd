// SPDX-License-Identifier: GPL-2.0-only
// One line in the kernel log, printf style, without newline; limited in rate.
#pragma once

#include "host/seam.h"

#define KVMPP_ERROR(...) kvmpp_log(KVMPP_LOG_ERROR, __VA_ARGS__)
#define KVMPP_INFO(...) kvmpp_log(KVMPP_LOG_INFO, __VA_ARGS__)
