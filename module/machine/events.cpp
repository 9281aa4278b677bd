// SPDX-License-Identifier: GPL-2.0-only
#include "machine/events.h"

namespace kvmpp::machine
{
namespace
{

using x86::Exception;
using x86::Vector;

// SDM vol. 3, 6.15, table 6-4: what a second exception makes of a first one.
enum class Class : u8 { benign, contributory, page_fault };

constexpr Class class_of(Vector vector)
{
	switch (vector) {
	case Vector::page_fault: return Class::page_fault;
	case Vector::divide_error:
	case Vector::invalid_tss:
	case Vector::segment_not_present:
	case Vector::stack_fault:
	case Vector::general_protection: return Class::contributory;
	default: return Class::benign;
	}
}

constexpr bool doubles(Vector first, Vector second)
{
	const Class a = class_of(first), b = class_of(second);
	return (a == Class::contributory && b == Class::contributory) ||
	       (a == Class::page_fault && b != Class::benign);
}

static_assert(doubles(Vector::page_fault, Vector::page_fault));
static_assert(doubles(Vector::general_protection, Vector::stack_fault));
static_assert(!doubles(Vector::general_protection, Vector::page_fault));
static_assert(!doubles(Vector::debug, Vector::general_protection));

} // namespace

void Events::raise(const Exception &second)
{
	// The exception that was under way, if one was: interrupts do not combine.
	std::optional<Vector> first;
	if (exception)
		first = exception->vector;
	else if (begun && begun->info.type() == vmx::EventType::hardware_exception)
		first = static_cast<Vector>(begun->info.vector());

	if (!first) {
		exception = second;
		return;
	}
	if (*first == Vector::double_fault && class_of(second.vector) != Class::benign) {
		triple_fault = true;
		return;
	}
	begun.reset();
	exception = doubles(*first, second.vector) ? Exception::coded(Vector::double_fault, 0) : second;
}

} // namespace kvmpp::machine
