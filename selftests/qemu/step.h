// SPDX-License-Identifier: GPL-2.0-only
// The results of a session with QEMU, in TAP. Each step needs those before it, so the first that
// fails is the last.
#pragma once

namespace kvmpp::qemu
{

// What happens from its construction to its destruction is one result.
class Step {
public:
	explicit Step(const char *name);
	~Step();
	Step(const Step &) = delete;
	Step &operator=(const Step &) = delete;
};

// The step has failed, and the session ends.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A line of explanation, `# ...`.
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

// After the last step: says how many there were.
void end_of_steps();

} // namespace kvmpp::qemu

#define EXPECT(condition)                   \
	((condition) ? void()               \
		     : ::kvmpp::qemu::fail( \
			       "%s:%d: not so: %s", __FILE_NAME__, __LINE__, #condition))
