// Drive one unit of the bench through its AXI-Stream ports, from files of input words to files of output words.
//
//   Vbench +unit=K +stall=PERCENT +seed=N +idle-limit=N
//          +input=FILE +input-bytes=N +repeat=N +output=FILE +output-bytes=N +outputs=N +words-out=N
//
// input-bytes, output-bytes: size of a word; repeat: how often each input word is sent; outputs: number of output words
// to wait for; words-out: words of one sample, for the measured latency and initiation interval; stall: percentage of
// cycles in which a source withholds a word, and in which a sink is not ready; idle-limit: number of cycles without any
// transfer after which the unit counts as stuck. What was measured is printed as one JSON object, behind what the bench
// itself prints at its end; latency and interval are those of the first output, and "stuck" says how far the unit came
// if not all outputs did.
//
// A bench with the ports in1_data, in1_valid, in1_ready and out1_data, out1_valid, out1_ready has a second input and a
// second output: their arguments have a 1 behind their names (+input1=FILE). A unit without them is told so by
// +input-bytes1=0 and +output-bytes1=0.
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
#include <utility>
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

// The words that go into one input port, by the arguments that end in `suffix`.
class Source {
public:
    Source(VerilatedContext& context, const std::string& suffix)
        : m_bytes(static_cast<size_t>(number(context, "input-bytes" + suffix))) {
        if (m_bytes == 0) return;
        m_repeat = number(context, "repeat" + suffix);
        m_words = read_file(argument(context, "input" + suffix));
        m_total = static_cast<long>(m_words.size() / m_bytes) * m_repeat;
    }

    template <class Port>
    bool offer(Port& data, bool running, Coin& coin) {
        if (m_bytes > sizeof(Port)) fail("a word is wider than the bench");
        if (running && !m_offering && m_taken < m_total && !coin.stalls()) {
            m_offering = true;
            store(data, &m_words[static_cast<size_t>(m_taken / m_repeat) * m_bytes], m_bytes);
        }
        return m_offering;
    }

    bool transfer(bool ready, long cycle) {
        if (!m_offering || !ready) return false;
        if (m_taken++ == 0) m_first = cycle;
        m_offering = false;
        return true;
    }

    long first() const { return m_first; }
    std::string progress() const { return std::to_string(m_taken) + " of " + std::to_string(m_total); }

private:
    size_t m_bytes;
    long m_repeat = 1, m_total = 0, m_taken = 0, m_first = 0;
    bool m_offering = false;
    std::vector<uint8_t> m_words;
};

// The words that come out of one output port.
class Sink {
public:
    Sink(VerilatedContext& context, const std::string& suffix)
        : m_bytes(static_cast<size_t>(number(context, "output-bytes" + suffix))) {
        if (m_bytes == 0) return;
        m_path = argument(context, "output" + suffix);
        m_total = number(context, "outputs" + suffix);
        m_words_per_sample = number(context, "words-out" + suffix);
        m_words.resize(m_bytes * static_cast<size_t>(m_total));
    }

    bool ready(bool running, Coin& coin) const { return running && !done() && !coin.stalls(); }

    template <class Port>
    bool transfer(const Port& data, bool valid, bool ready, long cycle) {
        if (!valid || !ready) return false;
        if (m_bytes > sizeof(Port)) fail("a word is wider than the bench");
        load(data, &m_words[static_cast<size_t>(m_given) * m_bytes], m_bytes);
        if (++m_given % m_words_per_sample == 0) m_last.push_back(cycle);
        return true;
    }

    bool done() const { return m_given == m_total; }
    void save() const {
        if (m_bytes != 0) write_file(m_path, m_words);
    }
    long given() const { return m_given; }
    long latency(long first) const { return m_last.empty() ? 0L : m_last[0] - first; }
    // Over the later three quarters of the samples, when the pipeline is full.
    double interval() const {
        const size_t samples = m_last.size(), settled = samples / 4;
        if (samples < 3) return 0;
        return static_cast<double>(m_last.back() - m_last[settled]) / static_cast<double>(samples - 1 - settled);
    }
    std::string progress() const { return std::to_string(m_given) + " of " + std::to_string(m_total); }

private:
    size_t m_bytes;
    long m_words_per_sample = 1, m_total = 0, m_given = 0;
    std::string m_path;
    std::vector<uint8_t> m_words;
    std::vector<long> m_last;  // per sample: the cycle of its last word
};

template <class Bench, class = void>
struct HasSecondPorts : std::false_type {};
template <class Bench>
struct HasSecondPorts<Bench, std::void_t<decltype(std::declval<Bench>().in1_data)>> : std::true_type {};

// A bench with its sources and sinks.
template <class Bench>
class Drive {
public:
    static constexpr bool TWO = HasSecondPorts<Bench>::value;

    Drive(VerilatedContext& context, Bench& bench)
        : m_bench(bench), m_coin(number(context, "stall"), number(context, "seed")) {
        for (const char* suffix : {"", "1"}) {
            if (m_sources.size() == 1 && !TWO) break;
            m_sources.emplace_back(context, suffix);
            m_sinks.emplace_back(context, suffix);
        }
    }

    void set_inputs(bool running) {
        m_bench.in_valid = m_sources[0].offer(m_bench.in_data, running, m_coin);
        if constexpr (TWO) m_bench.in1_valid = m_sources[1].offer(m_bench.in1_data, running, m_coin);
        m_bench.out_ready = m_sinks[0].ready(running, m_coin);
        if constexpr (TWO) m_bench.out1_ready = m_sinks[1].ready(running, m_coin);
    }

    // Called when the wires have settled, before the clock edge; returns whether any word goes over at that edge.
    bool transfer(long cycle) {
        bool moved = m_sinks[0].transfer(m_bench.out_data, m_bench.out_valid, m_bench.out_ready, cycle);
        moved |= m_sources[0].transfer(m_bench.in_ready, cycle);
        if constexpr (TWO) {
            moved |= m_sinks[1].transfer(m_bench.out1_data, m_bench.out1_valid, m_bench.out1_ready, cycle);
            moved |= m_sources[1].transfer(m_bench.in1_ready, cycle);
        }
        return moved;
    }

    bool done() const { return m_sinks.front().done() && m_sinks.back().done(); }
    const std::vector<Source>& sources() const { return m_sources; }
    const std::vector<Sink>& sinks() const { return m_sinks; }

private:
    Bench& m_bench;
    Coin m_coin;
    std::vector<Source> m_sources;
    std::vector<Sink> m_sinks;
};

template <class Part>
std::string progress(const std::vector<Part>& parts) {
    std::string text;
    for (const Part& part : parts) text += (text.empty() ? "" : " and ") + part.progress();
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto unit = static_cast<size_t>(number(*context, "unit"));
    const long idle_limit = number(*context, "idle-limit");

    const auto model = std::make_unique<Vbench>(context.get());
    Drive<Vbench> drive(*context, *model);
    std::vector<uint8_t> high(sizeof(model->clock), 0);
    const std::vector<uint8_t> low(sizeof(model->clock), 0);
    if (unit / 8 >= high.size()) fail("there is no such unit");
    high[unit / 8] = static_cast<uint8_t>(1U << unit % 8);

    long cycle = 0, idle = 0;
    model->unit = static_cast<uint16_t>(unit);
    const auto started = std::chrono::steady_clock::now();
    while (!drive.done() && idle < idle_limit && !context->gotFinish()) {
        model->reset_n = cycle >= RESET_CYCLES;
        drive.set_inputs(cycle >= START_CYCLE);
        store(model->clock, low.data(), low.size());
        model->eval();
        context->timeInc(1);
        const bool moved = drive.transfer(cycle);
        store(model->clock, high.data(), high.size());
        model->eval();
        context->timeInc(1);
        idle = moved ? 0 : idle + 1;
        ++cycle;
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    model->final();
    for (const Sink& sink : drive.sinks()) sink.save();

    std::string stuck;
    if (!drive.done()) {
        stuck = "the unit is stuck: " + progress(drive.sinks()) + " output words came, " + progress(drive.sources()) +
                " input words were taken";
    }
    const Sink& sink = drive.sinks().front();
    std::printf("{\"cycles\": %ld, \"outputs\": %ld, \"latency_cycles\": %ld, \"initiation_interval\": %.3f, "
                "\"seconds\": %.3f, \"stuck\": \"%s\"}\n",
                cycle, sink.given(), sink.latency(drive.sources().front().first()), sink.interval(), elapsed.count(),
                stuck.c_str());
    return 0;
}
