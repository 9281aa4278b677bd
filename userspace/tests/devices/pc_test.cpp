// SPDX-License-Identifier: GPL-2.0-only
// The models wired as a PC has them: interrupts from end to end, and a guest that does anything.
#include <random>
#include "tests/devices/apic.h"
#include "x86/devices/ioapic.h"
#include "x86/devices/pic.h"
#include "x86/devices/pit.h"

namespace kvmpp::tests
{

namespace
{

// Two processors; GSI 0 goes to pin 2 of the I/O APIC and line 0 of the PIC.
struct Pc {
	Apic cpus[2]{Apic{0}, Apic{1}};
	Pic pic{{callback<&Pc::pic_output>(*this), callback<&Pc::pic_acknowledged>(*this)}};
	Ioapic ioapic{{callback<&Pc::deliver>(*this), callback<&Pc::pin_acknowledged>(*this),
		callback<&Pc::vectors_changed>(*this)}};
	Pit pit{callback<&Pc::irq0>(*this)};
	unsigned kicks = 0;

	Pc() { cpus[0]->reset(true, true); }

	int deliver(const Message &message) { return deliver_from(message, ~0u); }
	int deliver_from(const Message &message, u32 sender)
	{
		Arbitration arbitration{message.vector};
		int result = delivery_ignored;
		for (Apic &cpu : cpus) {
			const Identity identity = cpu->identity();
			if (!addresses(identity, message, sender))
				continue;
			if (message.delivery == Delivery::lowest_priority)
				arbitration.offer(identity.id, cpu->task_priority());
			else
				result = std::max(result, 0) + std::max(cpu->accept(message), 0);
		}
		return arbitration.found() ? cpus[arbitration.winner()]->accept(message) : result;
	}
	void vectors_changed() {}
	void pic_output(bool level) { kicks += level; }
	void pic_acknowledged(unsigned line)
	{
		if (line == 0)
			pit.acknowledged();
	}
	void pin_acknowledged(unsigned pin)
	{
		if (pin == 2)
			pit.acknowledged();
	}
	int irq0(bool level)
	{
		const int by_pic = pic.set_line(0, 1, level), by_pin = ioapic.set_line(2, 1, level);
		return std::max(by_pic, by_pin);
	}
	void perform(Apic &cpu, const Lapic::Effect &effect)
	{
		if (effect.kind == Kind::send)
			deliver_from(effect.message, cpu->identity().id);
		if (effect.kind == Kind::eoi)
			ioapic.end_of_interrupt(effect.eoi.vector, effect.eoi.broadcast);
	}
	void write(unsigned cpu, ApicRegister name, u64 value)
	{
		perform(cpus[cpu], cpus[cpu].write(name, value));
	}
	void pin(unsigned number, u64 entry)
	{
		for (unsigned half = 0; half < 2; ++half) {
			ioapic.write(0, 4, 0x10 + number * 2 + half);
			ioapic.write(0x10, 4, entry >> half * 32 & 0xffffffff);
		}
	}
	void start_pit(u16 count)
	{
		pit.write(0x43, 0x34);
		pit.write(0x40, count & 0xff);
		pit.write(0x40, count >> 8);
	}
};

} // namespace

TEST(Pc, TimerThroughThePicAsFirmwareUsesIt)
{
	Pc pc;
	for (u8 value : {0x11, 0x08, 0x04, 0x01})
		pc.pic.write(value == 0x11 ? 0x20 : 0x21, value);
	pc.start_pit(11932);
	unsigned ticks = 0;
	for (unsigned n = 0; n < 100; ++n) {
		clock().advance(ms);
		ASSERT_TRUE(pc.cpus[0]->accepts_pic());
		ASSERT_FALSE(pc.cpus[1]->accepts_pic());
		while (pc.pic.output()) {
			EXPECT_EQ(pc.pic.acknowledge(), 0x08);
			pc.pic.write(0x20, 0x20);
			++ticks;
		}
	}
	EXPECT_EQ(ticks, 9u);
	EXPECT_EQ(pc.kicks, 9u);
}

TEST(Pc, TimerThroughTheIoApicWithTicksKeptForASlowGuest)
{
	Pc pc;
	pc.pic.write(0x21, 0xff);
	pc.cpus[0].enable();
	pc.pin(2, 0x30);
	pc.start_pit(11932);
	clock().advance(35 * ms);
	unsigned ticks = 0;
	while (pc.cpus[0].take() == 0x30) {
		pc.write(0, ApicRegister::eoi, 0);
		++ticks;
	}
	EXPECT_EQ(ticks, 3u) << "one after the other, each after the end of the last";
}

TEST(Pc, ALevelInterruptIsDeliveredUntilTheDeviceIsQuiet)
{
	Pc pc;
	pc.cpus[1].enable();
	pc.pin(17, u64{1} << 56 | 1 << 15 | 0x61);
	EXPECT_EQ(pc.ioapic.set_line(17, 0, true), 1);
	for (unsigned n = 0; n < 3; ++n) {
		EXPECT_EQ(pc.cpus[1].take(), 0x61);
		EXPECT_EQ(pc.cpus[1].pending(), 0);
		if (n == 2)
			pc.ioapic.set_line(17, 0, false);
		pc.write(1, ApicRegister::eoi, 0);
	}
	EXPECT_EQ(pc.cpus[1].pending(), 0);
}

TEST(Pc, StartOfASecondProcessor)
{
	Pc pc;
	pc.cpus[0].enable();
	pc.write(0, ApicRegister::icr, 0xc4500);
	EXPECT_TRUE(pc.cpus[1]->collect().init);
	pc.cpus[1]->init();
	pc.write(0, ApicRegister::icr_high, 0x01000000);
	pc.write(0, ApicRegister::icr, 0x4699);
	const auto events = pc.cpus[1]->collect();
	EXPECT_TRUE(events.startup);
	EXPECT_EQ(events.startup_vector, 0x99);
	EXPECT_FALSE(pc.cpus[0]->attention());
}

TEST(Pc, LowestPriorityGoesToTheIdleOne)
{
	Pc pc;
	pc.cpus[0].enable();
	pc.cpus[1].enable();
	pc.pin(5, u64{0xff} << 56 | 1 << 8 | 0x55);
	pc.write(0, ApicRegister::tpr, 0x40);
	pc.ioapic.set_line(5, 0, true);
	EXPECT_EQ(pc.cpus[1].take(), 0x55);
	EXPECT_EQ(pc.cpus[0].take(), 0);
}

// A guest and a VMM that write anything anywhere. What must hold whatever they do is checked here,
// the rest by the sanitizers.
TEST(Pc, AnythingGoes)
{
	std::mt19937_64 random{42};
	const auto below = [&random](u64 limit) { return random() % limit; };
	const auto word = [&]() -> u64 {
		switch (below(5)) {
		case 0: return below(256);
		case 1: return bit(static_cast<unsigned>(below(64)));
		case 2: return ~u64{0};
		case 3: return random() & 0xffffffff;
		default: return random();
		}
	};
	constexpr u16 ports[] = {
		0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61};
	for (unsigned machine = 0; machine < 20; ++machine) {
		Pc pc;
		for (Apic &cpu : pc.cpus)
			cpu->set_features({.x2apic = true,
				.tsc_deadline = machine % 2 == 0,
				.cmci = machine % 3 == 0,
				.directed_eoi = machine % 5 == 0});
		for (unsigned step = 0; step < 8000; ++step) {
			Apic &cpu = pc.cpus[below(2)];
			const u16 port = ports[below(std::size(ports))];
			const u32 reg = static_cast<u32>(below(0x42)) * 16;
			switch (below(20)) {
			case 0:
			case 1:
			case 2:
			case 3:
				if (cpu->x2apic_enabled())
					pc.perform(cpu, cpu->write_msr(0x800 + reg / 16, word()));
				else
					pc.perform(cpu, cpu->write_mmio(reg, 4, word()));
				break;
			case 4:
				cpu->read_mmio(reg + below(16), static_cast<unsigned>(below(9)));
				cpu->read_msr(static_cast<u32>(0x800 + below(0x100)));
				break;
			case 5: pc.ioapic.write(0, 4, below(0x42)); break;
			case 6: pc.ioapic.write(0x10, 4, word()); break;
			case 7: pc.ioapic.read(0x10, 4); break;
			case 8: pc.ioapic.set_line(below(26), below(66), below(2)); break;
			case 9: pc.pic.set_line(below(18), below(66), below(2)); break;
			case 10:
			case 11:
				if (port == 0x61 || (port >= 0x40 && port <= 0x43))
					pc.pit.write(port, static_cast<u8>(word()));
				else
					pc.pic.write(port, static_cast<u8>(word()));
				break;
			case 12:
				pc.pic.read(port);
				pc.pit.read(port);
				break;
			case 13: pc.pic.acknowledge(); break;
			case 14: {
				const u64 before = clock().fired(), span = below(2 * ms);
				clock().advance(span);
				// Two local timers and the PIT at no less than 200 us, and
				// one-shots.
				EXPECT_LE(clock().fired() - before, 3 * (span / 200'000 + 2) + 1);
				break;
			}
			case 15: {
				cpu->collect();
				const auto vector = cpu->injectable();
				if (!vector)
					break;
				ASSERT_GE(*vector, 16);
				ASSERT_GT(*vector >> 4, cpu->processor_priority() >> 4);
				cpu->acknowledge(*vector);
				ASSERT_EQ(cpu->highest_in_service(), *vector);
				break;
			}
			case 16:
				if (const auto ended = cpu->end_of_interrupt())
					pc.ioapic.end_of_interrupt(ended->vector, ended->broadcast);
				break;
			case 17: {
				const u64 base = apic_base::default_address | below(16) << 8;
				if (below(20) == 0)
					static_cast<void>(cpu->set_base(base, 36, below(2)));
				break;
			}
			case 18:
				cpu->set_tsc_deadline(word(),
					{random(), clock().now(), tsc_tick(below(4'000'000))});
				break;
			default:
				if (below(50))
					break;
				kvm_lapic_state lapic;
				kvm_ioapic_state io;
				kvm_pic_state pic;
				kvm_pit_state2 pit;
				cpu->get(lapic, true);
				pc.ioapic.get(io);
				pc.pic.get(step & 1, pic);
				pc.pit.get(pit);
				for (unsigned n = 0; n < 20; ++n) {
					lapic.regs[below(sizeof(lapic))] =
						static_cast<char>(word());
					reinterpret_cast<u8 *>(&io)[below(sizeof(io))] =
						static_cast<u8>(word());
					reinterpret_cast<u8 *>(&pic)[below(sizeof(pic))] =
						static_cast<u8>(word());
					reinterpret_cast<u8 *>(&pit)[below(sizeof(pit))] =
						static_cast<u8>(word());
				}
				static_cast<void>(cpu->set(lapic, false));
				pc.ioapic.set(io);
				pc.pic.set(step & 1, pic);
				pc.pit.set(pit);
			}
		}
	}
}

} // namespace kvmpp::tests
