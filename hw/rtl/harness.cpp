// Drive one unit of the bench through its AXI-Stream ports, from a file of input words to a file of output words.
//
//   Vbench +unit=K +input=FILE +input-bytes=N +repeat=N +output=FILE +output-bytes=N +outputs=N
//          +words-in=N +words-out=N +stall=PERCENT +seed=N +idle-limit=N
//
// input-bytes, output-bytes: size of a word; repeat: how often each input word is sent; outputs: number of output words
// to wait for; words-in, words-out: words of one sample, for the measured latency and initiation interval; stall:
// percentage of cycles in which the source withholds a word, and in which the sink is not ready; idle-limit: number of
// cycles without any transfer after which the unit counts as stuck. What was measured is printed as one JSON object.
// The exit code is 0 when all outputs came.
//
// A word that was offered stays offered until it is taken, as AXI-Stream demands.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "Vbench.h"
#include "verilated.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are copied byte by byte");

namespace {

constexpr long RESET_CYCLES = 20;
constexpr long START_CYCLE = 40;  // weight memories have filled their output registers by then

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "harness: %s\n", message.c_str());
    std::exit(2);
}

std::string argument(VerilatedContext& context, const std::string& name) {
    const std::string prefix = name + "=";
    const std::string match = context.commandArgsPlusMatch(prefix.c_str());
    if (match.empty()) fail("argument +" + prefix + " is missing");
    return match.substr(1 + prefix.size());
}

long number(VerilatedContext& context, const std::string& name) {
    return std::strtol(argument(context, name).c_str(), nullptr, 10);
}

// A port is an unsigned integer up to 64 bits, and an array of 32-bit words (VlWide) above.
template <class Port>
void store(Port& port, const uint8_t* bytes, size_t size) {
    if constexpr (std::is_integral_v<Port>) {
        port = 0;
        std::memcpy(&port, bytes, size);
    } else {
        std::memset(port.data(), 0, sizeof(Port));
        std::memcpy(port.data(), bytes, size);
    }
}

template <class Port>
void load(const Port& port, uint8_t* bytes, size_t size) {
    if constexpr (std::is_integral_v<Port>) {
        std::memcpy(bytes, &port, size);
    } else {
        std::memcpy(bytes, port.data(), size);
    }
}

std::vector<uint8_t> read_file(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) fail("cannot read " + path);
    std::fseek(file, 0, SEEK_END);
    std::vector<uint8_t> bytes(static_cast<size_t>(std::ftell(file)));
    std::rewind(file);
    if (std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size()) fail("cannot read " + path);
    std::fclose(file);
    return bytes;
}

void write_file(const std::string& path, const std::vector<uint8_t>& bytes) {
    FILE* file = std::fopen(path.c_str(), "wb");
    if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0) {
        fail("cannot write " + path);
    }
}

// xorshift64*: the stalls have to be the same on every machine.
class Coin {
public:
    Coin(long percent, long seed) : m_percent(percent), m_state(static_cast<uint64_t>(seed) * 2 + 1) {}
    bool stalls() {
        if (m_percent == 0) return false;
        m_state ^= m_state >> 12;
        m_state ^= m_state << 25;
        m_state ^= m_state >> 27;
        return static_cast<long>((m_state * 0x2545F4914F6CDD1DULL >> 33) % 100) < m_percent;
    }

private:
    long m_percent;
    uint64_t m_state;
};

}  // namespace

int main(int argc, char** argv) {
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto unit = static_cast<size_t>(number(*context, "unit"));
    const auto input_bytes = static_cast<size_t>(number(*context, "input-bytes"));
    const auto output_bytes = static_cast<size_t>(number(*context, "output-bytes"));
    const long repeat = number(*context, "repeat");
    const long outputs = number(*context, "outputs");
    const long words_in = number(*context, "words-in");
    const long words_out = number(*context, "words-out");
    const long idle_limit = number(*context, "idle-limit");
    const std::vector<uint8_t> input = read_file(argument(*context, "input"));
    const std::string output_path = argument(*context, "output");
    Coin coin(number(*context, "stall"), number(*context, "seed"));

    const auto model = std::make_unique<Vbench>(context.get());
    if (input_bytes == 0 || input_bytes > sizeof(model->in_data) || output_bytes > sizeof(model->out_data)) {
        fail("a word is wider than the bench");
    }
    std::vector<uint8_t> high(sizeof(model->clock), 0);
    const std::vector<uint8_t> low(sizeof(model->clock), 0);
    if (unit / 8 >= high.size()) fail("there is no such unit");
    high[unit / 8] = static_cast<uint8_t>(1U << unit % 8);

    std::vector<uint8_t> output(output_bytes * static_cast<size_t>(outputs));
    std::vector<long> first_in, last_out;  // per sample: cycle of its first input and of its last output
    const long total_in = static_cast<long>(input.size() / input_bytes) * repeat;
    long taken = 0, given = 0, cycle = 0, idle = 0;
    bool offering = false;
    model->unit = static_cast<uint16_t>(unit);
    const auto started = std::chrono::steady_clock::now();
    while (given < outputs && idle < idle_limit && !context->gotFinish()) {
        const bool running = cycle >= START_CYCLE;
        if (running && !offering && taken < total_in && !coin.stalls()) {
            offering = true;
            store(model->in_data, &input[static_cast<size_t>(taken / repeat) * input_bytes], input_bytes);
        }
        model->reset_n = cycle >= RESET_CYCLES;
        model->in_valid = offering;
        model->out_ready = running && !coin.stalls();
        store(model->clock, low.data(), low.size());
        model->eval();
        context->timeInc(1);
        const bool takes = offering && model->in_ready;
        const bool gives = model->out_valid && model->out_ready;
        if (gives) {
            load(model->out_data, &output[static_cast<size_t>(given) * output_bytes], output_bytes);
            if (++given % words_out == 0) last_out.push_back(cycle);
        }
        store(model->clock, high.data(), high.size());
        model->eval();
        context->timeInc(1);
        if (takes) {
            if (taken++ % words_in == 0) first_in.push_back(cycle);
            offering = false;
        }
        idle = takes || gives ? 0 : idle + 1;
        ++cycle;
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    model->final();
    write_file(output_path, output);

    // The interval is taken over the later three quarters of the samples, when the pipeline is full.
    const size_t samples = last_out.size(), settled = samples / 4;
    const double interval =
        samples < 3 ? 0 : static_cast<double>(last_out.back() - last_out[settled]) / static_cast<double>(samples - 1 - settled);
    std::printf("{\"cycles\": %ld, \"outputs\": %ld, \"latency_cycles\": %ld, \"initiation_interval\": %.3f, "
                "\"seconds\": %.3f}\n",
                cycle, given, samples ? last_out[0] - first_in[0] : 0L, interval, elapsed.count());
    if (given < outputs) fail("the unit is stuck: " + std::to_string(given) + " of " + std::to_string(outputs) +
                              " output words came, " + std::to_string(taken) + " of " + std::to_string(total_in) +
                              " input words were taken");
    return 0;
}
