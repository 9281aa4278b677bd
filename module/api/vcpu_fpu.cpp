// SPDX-License-Identifier: GPL-2.0-only
#include <algorithm>
#include "api/vcpu.h"
#include "host/memory.h"
#include "x86/xsave.h"

namespace kvmpp::api
{
namespace
{

// The legacy region of an XSAVE image, SDM vol. 1, 10.5.1, and the start of its header.
struct Image {
	u16 control, status;
	u8 tag;
	u8 reserved;
	u16 opcode;
	u64 instruction, operand;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 unused[96];
	u64 components;
	u64 header[7];
	u8 rest[4096 - 576];
};
static_assert(sizeof(Image) == sizeof(kvm_xsave) && offsetof(Image, components) == 512);
static_assert(sizeof(Image::st) == sizeof(kvm_fpu::fpr) && sizeof(Image::xmm) == sizeof(kvm_fpu::xmm));

} // namespace

Result<> get_fpu(Vcpu &vcpu, kvm_fpu &fpu)
{
	auto image = TRY(host::make<Image>());
	vcpu.fpu.get(image.get(), sizeof(Image));
	fpu.fcw = image->control;
	fpu.fsw = image->status;
	fpu.ftwx = image->tag;
	fpu.last_opcode = image->opcode;
	fpu.last_ip = image->instruction;
	fpu.last_dp = image->operand;
	fpu.mxcsr = image->mxcsr;
	__builtin_memcpy(fpu.fpr, image->st, sizeof(fpu.fpr));
	__builtin_memcpy(fpu.xmm, image->xmm, sizeof(fpu.xmm));
	return {};
}

Result<> set_fpu(Vcpu &vcpu, const kvm_fpu &fpu)
{
	auto image = TRY(host::make<Image>());
	vcpu.fpu.get(image.get(), sizeof(Image));
	// FXSAVE tells what MXCSR can have. A state that was never in the processor has not met it.
	if (!image->mxcsr_mask) {
		vcpu.fpu.enter();
		vcpu.fpu.leave();
		vcpu.fpu.get(image.get(), sizeof(Image));
	}
	image->control = fpu.fcw;
	image->status = fpu.fsw;
	image->tag = fpu.ftwx;
	image->opcode = fpu.last_opcode;
	image->instruction = fpu.last_ip;
	image->operand = fpu.last_dp;
	// A reserved bit would fault when the state is loaded.
	image->mxcsr = fpu.mxcsr & image->mxcsr_mask;
	image->components |= x86::xcr0::x87 | x86::xcr0::sse;
	__builtin_memcpy(image->st, fpu.fpr, sizeof(fpu.fpr));
	__builtin_memcpy(image->xmm, fpu.xmm, sizeof(fpu.xmm));
	return vcpu.fpu.set(image.get(), sizeof(Image), vcpu.cpuid.xcr0_allowed());
}

Result<> get_xsave(Vcpu &vcpu, kvm_xsave &xsave)
{
	vcpu.fpu.get(&xsave, sizeof(xsave));
	return {};
}

Result<> set_xsave(Vcpu &vcpu, const kvm_xsave &xsave)
{
	return vcpu.fpu.set(&xsave, sizeof(xsave), kvmpp_fpu_xcr0_supported());
}

Result<> get_xcrs(Vcpu &vcpu, kvm_xcrs &xcrs)
{
	if (!kvmpp_fpu_xcr0_supported())
		return fail(EINVAL);
	xcrs.nr_xcrs = 1;
	xcrs.xcrs[0].xcr = 0;
	xcrs.xcrs[0].value = vcpu.xcr0;
	return {};
}

Result<> set_xcrs(Vcpu &vcpu, const kvm_xcrs &xcrs)
{
	if (!kvmpp_fpu_xcr0_supported() || xcrs.nr_xcrs > KVM_MAX_XCRS || xcrs.flags)
		return fail(EINVAL);
	for (u32 i = 0; i < xcrs.nr_xcrs; ++i) {
		if (xcrs.xcrs[i].xcr != 0)
			continue;
		if (!x86::xcr0_valid(xcrs.xcrs[i].value, vcpu.cpuid.xcr0_allowed()))
			return fail(EINVAL);
		vcpu.set_xcr0(xcrs.xcrs[i].value);
		break;
	}
	return {};
}

} // namespace kvmpp::api
