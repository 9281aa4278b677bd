// SPDX-License-Identifier: GPL-2.0-only
// The emulator on arbitrary bytes in arbitrary guests.
#include "tests/emulator/any_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const kvmpp::u8 *bytes, kvmpp::usize size)
{
	kvmpp::x86::emulator::test::try_bytes({bytes, size});
	return 0;
}
