// SPDX-License-Identifier: GPL-2.0-only
// The operations that are measured.
#pragma once

#include <functional>
#include <vector>
#include "kvmpp/bench/results.h"
#include "lib/system.h"

namespace kvmpp::command
{

// Measures each on that device; `done` is called after each. `only` names keys; empty: all.
std::vector<Measurement> measure_all(const lib::System &system,
	const std::vector<std::string> &only, const std::function<void(const Measurement &)> &done);

} // namespace kvmpp::command
