// SPDX-License-Identifier: GPL-2.0-only
#include "sim/cpu/fpu.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include "sim/cpu/cpus.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "x86/xsave.h"

namespace kvmpp::sim
{
namespace
{

// Places in the image, SDM vol. 1, 10.5.1 and 13.4.2.
constexpr usize control_place = 0, mxcsr_place = 24, mask_place = 28, st_place = 32, xmm_place = 160,
		components_place = 512, header_end = 576, ymm_place = 576;
constexpr u32 mxcsr_mask = 0xffff;

FpuImage *&image_of(kvmpp_fpu *fpu)
{
	return object_in<FpuImage *>(fpu);
}

FpuImage &entered()
{
	FpuImage *image = this_thread().fpu;
	if (!image)
		die("uses a guest's FPU registers that are not there");
	return *image;
}

template <class T>
T &at(FpuImage &image, usize place)
{
	return *reinterpret_cast<T *>(&image.bytes[place]);
}

} // namespace
} // namespace kvmpp::sim

using namespace kvmpp;

int kvmpp_fpu_init(kvmpp_fpu *fpu)
{
	sim::might_sleep("kvmpp_fpu_init");
	if (sim::fails_now(sim::Fallible::host_call))
		return -ENOMEM;
	sim::construct_in<sim::FpuImage *>(fpu, new sim::FpuImage);
	auto &image = *sim::image_of(fpu);
	sim::at<u16>(image, sim::control_place) = 0x37f;
	sim::at<u32>(image, sim::mxcsr_place) = 0x1f80;
	// Where the kernel has no XSAVE it knows the mask when the state was in the processor.
	sim::at<u32>(image, sim::mask_place) = 0;
	return 0;
}

void kvmpp_fpu_destroy(kvmpp_fpu *fpu)
{
	delete sim::image_of(fpu);
}

void kvmpp_fpu_enter(kvmpp_fpu *fpu)
{
	if (sim::this_thread().fpu)
		sim::die("enters a second FPU state");
	sim::this_thread().fpu = sim::image_of(fpu);
	sim::at<u32>(*sim::image_of(fpu), sim::mask_place) = sim::mxcsr_mask;
}

void kvmpp_fpu_leave(kvmpp_fpu *fpu)
{
	if (std::exchange(sim::this_thread().fpu, nullptr) != sim::image_of(fpu))
		sim::die("leaves an FPU state that it has not entered");
}

void kvmpp_fpu_get(kvmpp_fpu *fpu, void *xsave, size_t size)
{
	if (sim::this_thread().fpu == sim::image_of(fpu))
		sim::die("copies an FPU state that is in the processor");
	std::memcpy(xsave, sim::image_of(fpu)->bytes.data(), std::min(size, sizeof(sim::FpuImage::bytes)));
}

int kvmpp_fpu_set(kvmpp_fpu *fpu, const void *xsave, size_t size, __u64 xcr0)
{
	sim::FpuImage fresh;
	std::memcpy(fresh.bytes.data(), xsave, std::min(size, sizeof(fresh.bytes)));
	if (sim::at<u64>(fresh, sim::components_place) & ~(xcr0 | x86::xcr0::x87 | x86::xcr0::sse) ||
		sim::at<u32>(fresh, sim::mxcsr_place) & ~sim::mxcsr_mask)
		return -EINVAL;
	for (usize i = sim::components_place + 8; i < sim::header_end; ++i)
		if (fresh.bytes[i])
			return -EINVAL;
	sim::at<u32>(fresh, sim::mask_place) = sim::mxcsr_mask;
	*sim::image_of(fpu) = fresh;
	return 0;
}

void kvmpp_fpu_read_vector(unsigned int number, void *value, unsigned int size)
{
	auto &image = sim::entered();
	std::memcpy(value, &image.bytes[sim::xmm_place + number * 16], std::min(size, 16u));
	if (size > 16)
		std::memcpy(static_cast<u8 *>(value) + 16, &image.bytes[sim::ymm_place + number * 16],
			size - 16);
}

void kvmpp_fpu_write_vector(unsigned int number, const void *value, unsigned int size, int clear_above)
{
	auto &image = sim::entered();
	u8 *low = &image.bytes[sim::xmm_place + number * 16], *high = &image.bytes[sim::ymm_place + number * 16];
	if (clear_above) {
		std::memset(low, 0, 16);
		std::memset(high, 0, 16);
	}
	std::memcpy(low, value, std::min(size, 16u));
	if (size > 16)
		std::memcpy(high, static_cast<const u8 *>(value) + 16, size - 16);
}

void kvmpp_fpu_read_mmx(unsigned int number, __u64 *value)
{
	*value = sim::at<u64>(sim::entered(), sim::st_place + number * 16);
}

void kvmpp_fpu_write_mmx(unsigned int number, __u64 value)
{
	sim::at<u64>(sim::entered(), sim::st_place + number * 16) = value;
}

void kvmpp_fpu_fxsave(void *image)
{
	std::memcpy(image, sim::entered().bytes.data(), 512);
}

int kvmpp_fpu_fxrstor(const void *image)
{
	u32 mxcsr;
	std::memcpy(&mxcsr, static_cast<const u8 *>(image) + sim::mxcsr_place, sizeof(mxcsr));
	if (mxcsr & ~sim::mxcsr_mask)
		return -EINVAL;
	std::memcpy(sim::entered().bytes.data(), image, 512);
	return 0;
}

__u64 kvmpp_fpu_xcr0_supported(void)
{
	return kvmpp_fpu_xcr0();
}

__u64 kvmpp_fpu_xcr0(void)
{
	return 0xe7;
}

void kvmpp_xcr0_write(__u64 value)
{
	if (!sim::this_thread().interrupts_off)
		sim::die("XCR0 is switched with interrupts on");
	sim::this_cpu().xcr0 = value;
}
