// SPDX-License-Identifier: GPL-2.0-only
// Runs every form of an instruction that a 64-bit program can execute on this machine's processor
// and in the emulator, from the same random states, and compares what becomes of them.
//
//   kvmpp-emulator-differential [--seconds N | --rounds N] [--seed N] [--only TEXT] [--list]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <unistd.h>
#include "tests/emulator/differential/compare.h"
#include "tests/emulator/differential/emulated.h"
#include "tests/emulator/differential/native.h"

using namespace kvmpp;
using namespace kvmpp::x86::emulator::differential;

namespace
{

constexpr unsigned most_reports = 3; // for one form

struct Options {
	unsigned seconds = 30, rounds = ~0u;
	u64 seed = 1;
	const char *only = "";
	bool list = false;
};

struct Counts {
	u64 compared = 0, faults = 0, discarded = 0, undefined = 0, different = 0;
};

Surroundings surroundings()
{
	Surroundings found;
	syscall(SYS_arch_prctl, ARCH_GET_FS, &found.fs_base);
	std::ifstream cpuinfo{"/proc/cpuinfo"};
	for (std::string word; cpuinfo >> word && !found.wide_addresses;)
		found.wide_addresses = word == "la57";
	return found;
}

class Comparison {
public:
	explicit Comparison(u64 seed)
		: batch_{*new (mmap(nullptr, sizeof(Batch), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Batch},
		  generator_{seed, surroundings()}, native_{batch_}
	{
		Random random{seed};
		for (u8 &byte : batch_.image)
			byte = static_cast<u8>(random.next());
		emulated_ = std::make_unique<EmulatedSide>(batch_.image, surroundings());
		results_ = std::make_unique<Ending[]>(batch_size);
	}

	void round(const Form &form, Counts &counts)
	{
		prepare(form, counts);
		while (batch_.at < batch_.count && !native_.run()) {
			++counts.different;
			printf("%s: the child has died, or hangs:\n%s", form.name().c_str(),
				describe(batch_.states[batch_.at], results_[batch_.at], Ending{})
					.c_str());
			batch_.states[batch_.at++].run = false;
		}
		for (unsigned i = 0; i < batch_.count; ++i)
			if (batch_.states[i].run)
				judge(form, i, counts);
	}

private:
	void prepare(const Form &form, Counts &counts)
	{
		unsigned tries = 0;
		batch_.count = batch_.at = 0;
		while (batch_.count < batch_size && tries++ < 8 * batch_size) {
			State &state = batch_.states[batch_.count];
			Ending &result = results_[batch_.count];
			if (!generator_.generate(form, state) || !state.run)
				continue;
			const auto verdict = emulated_->run(state, result);
			if (verdict == EmulatedSide::Verdict::comparable) {
				++batch_.count;
				continue;
			}
			++counts.discarded;
			if (verdict == EmulatedSide::Verdict::leaves_the_arena)
				continue;
			if (counts.different++ < most_reports)
				printf("%s: %s\n%s", form.name().c_str(),
					verdict == EmulatedSide::Verdict::unknown ? "not emulated"
										  : "never ends",
					describe(state, result, Ending{}).c_str());
		}
	}

	void judge(const Form &form, unsigned i, Counts &counts)
	{
		const State &state = batch_.states[i];
		const Ending &emulated = results_[i], &native = batch_.results[i];
		switch (compare(state, emulated, native)) {
		case Compared::undefined: ++counts.undefined; return;
		case Compared::equal: break;
		case Compared::different:
			if (counts.different++ < most_reports)
				printf("%s: differs\n%s", form.name().c_str(),
					describe(state, emulated, native).c_str());
		}
		++counts.compared;
		counts.faults += native.vector != Ending::no_vector;
	}

	Batch &batch_;
	Generator generator_;
	NativeSide native_;
	std::unique_ptr<EmulatedSide> emulated_;
	std::unique_ptr<Ending[]> results_;
};

Options parse(char **arguments)
{
	Options options;
	while (*++arguments) {
		const std::string name = *arguments;
		if (name == "--list") {
			options.list = true;
			continue;
		}
		const char *const value = *++arguments;
		if (name == "--seconds" && value)
			options.seconds = static_cast<unsigned>(atoi(value));
		else if (name == "--rounds" && value)
			options.rounds = static_cast<unsigned>(atoi(value)),
			options.seconds = ~0u >> 1;
		else if (name == "--seed" && value)
			options.seed = strtoull(value, nullptr, 0);
		else if (name == "--only" && value)
			options.only = value;
		else
			fprintf(stderr, "unknown option %s\n", name.c_str()), exit(2);
	}
	return options;
}

struct Chosen {
	std::vector<Form> forms;
	std::map<std::string, std::vector<std::string>> not_run, lacking;
	usize all = 0;
};

Chosen choose(const Options &options)
{
	Chosen chosen;
	for (const Form &form : all_forms()) {
		++chosen.all;
		if (const char *reason = cannot_run(form))
			chosen.not_run[reason].push_back(form.name());
		else if (const char *feature = lacks(form))
			chosen.lacking[feature].push_back(form.name());
		else if (form.name().find(options.only) != std::string::npos)
			chosen.forms.push_back(form);
	}
	return chosen;
}

usize print_reasons(const char *title,
	const std::map<std::string, std::vector<std::string>> &reasons, bool list)
{
	usize count = 0;
	for (const auto &[reason, names] : reasons) {
		printf("  %5zu %s %s\n", names.size(), title, reason.c_str());
		count += names.size();
		if (list)
			for (const std::string &name : names)
				printf("          %s\n", name.c_str());
	}
	return count;
}

} // namespace

int main(int, char **arguments)
{
	const Options options = parse(arguments);
	const Chosen chosen = choose(options);
	setvbuf(stdout, nullptr, _IOLBF, 0);
	printf("%zu forms in the opcode maps for 64-bit mode\n", chosen.all);
	const usize not_run = print_reasons("not run natively:", chosen.not_run, options.list);
	const usize lacking =
		print_reasons("skipped, the processor lacks", chosen.lacking, options.list);
	if (options.list)
		return 0;

	using Clock = std::chrono::steady_clock;
	const auto end = Clock::now() + std::chrono::seconds{options.seconds};
	Comparison comparison{options.seed};
	std::vector<Counts> counts(chosen.forms.size());
	unsigned rounds = 0;
	// The first round is always complete, so that no form is left out.
	for (; rounds < options.rounds && (rounds == 0 || Clock::now() < end); ++rounds)
		for (usize i = 0; i < chosen.forms.size() && (rounds == 0 || Clock::now() < end);
			++i)
			if (counts[i].different < 100)
				comparison.round(chosen.forms[i], counts[i]);

	Counts sum;
	usize bad = 0;
	for (usize i = 0; i < counts.size(); ++i) {
		sum.compared += counts[i].compared;
		sum.faults += counts[i].faults;
		sum.discarded += counts[i].discarded;
		sum.undefined += counts[i].undefined;
		sum.different += counts[i].different;
		const bool never = !counts[i].compared && !counts[i].undefined;
		if (never)
			printf("%s: never compared\n", chosen.forms[i].name().c_str());
		bad += never || counts[i].different;
	}
	printf("%zu forms compared, %zu not run natively, %zu skipped; %llu states compared, %llu "
	       "of them "
	       "faults; %llu left out; %llu states in %zu forms differ (seed %llu)\n",
		chosen.forms.size(), not_run, lacking,
		static_cast<unsigned long long>(sum.compared),
		static_cast<unsigned long long>(sum.faults),
		static_cast<unsigned long long>(sum.discarded + sum.undefined),
		static_cast<unsigned long long>(sum.different), bad,
		static_cast<unsigned long long>(options.seed));
	return bad ? 1 : 0;
}
