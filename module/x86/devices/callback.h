// SPDX-License-Identifier: GPL-2.0-only
// How a model reaches the machine around it: a function with its context, two words by value.
#pragma once

namespace kvmpp::x86
{

template <class Signature>
class Callback;

template <class R, class... Arguments>
class Callback<R(Arguments...)> {
public:
	using Function = R (*)(void *context, Arguments...);

	constexpr Callback(Function function, void *context)
		: function_{function}, context_{context}
	{}

	R operator()(Arguments... arguments) const { return function_(context_, arguments...); }

private:
	Function function_;
	void *context_;
};

namespace detail
{

template <auto method>
struct Method;

template <class Object, class R, class... Arguments, R (Object::*method)(Arguments...)>
struct Method<method> {
	static constexpr Callback<R(Arguments...)> of(Object &object)
	{
		return {[](void *context, Arguments... arguments) -> R {
				return (static_cast<Object *>(context)->*method)(arguments...);
			},
			&object};
	}
};

} // namespace detail

// A call of object.method(...): callback<&Machine::deliver>(machine).
template <auto method, class Object>
constexpr auto callback(Object &object)
{
	return detail::Method<method>::of(object);
}

} // namespace kvmpp::x86
