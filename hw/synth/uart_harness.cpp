// Drive the serial lines of a complete design bit by bit, from and to pipes of bytes.
//
// Vboard +from=PIPE +to=PIPE +bit-clocks=N +quiet-clocks=N
//
// from, to: pipes (mkfifo) of the bytes that the host sends, and of those that it gets. bit-clocks: clock cycles of a
// bit on the lines. quiet-clocks: time stands still when for so many cycles neither line has moved and the host sends
// nothing; it goes on with the next byte. The program ends when the host closes its pipe and the lines are quiet. Then
// what was simulated is printed as one JSON object.
//
// A byte of the design whose start or stop bit is wrong in its middle ends the program with code 2.

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>

#include "Vbench.h"
#include "verilated.h"

namespace {

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

// The bytes of the host.
class Pipe {
public:
    Pipe(const std::string& from, const std::string& to) {
        m_from = open(from.c_str(), O_RDONLY);
        m_to = open(to.c_str(), O_WRONLY);
        if (m_from < 0 || m_to < 0) fail("cannot open " + from + " and " + to);
    }

    // Take in what has come; with `wait`, not before something has, or the host has closed its end.
    void take(bool wait) {
        pollfd asked = {m_from, POLLIN, 0};
        while (m_open && poll(&asked, 1, wait ? -1 : 0) > 0) {
            uint8_t bytes[4096];
            const ssize_t count = read(m_from, bytes, sizeof bytes);
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) m_open = false;
            for (ssize_t index = 0; index < count; ++index) m_waiting.push_back(bytes[index]);
            wait = false;
        }
    }

    void give(uint8_t byte) {
        if (write(m_to, &byte, 1) != 1) m_open = false;  // the host has gone
    }

    bool is_open() const { return m_open; }
    bool empty() const { return m_waiting.empty(); }
    uint8_t next() {
        const uint8_t byte = m_waiting.front();
        m_waiting.pop_front();
        return byte;
    }

private:
    int m_from, m_to;
    bool m_open = true;
    std::deque<uint8_t> m_waiting;
};

// The host's end of the line into the design.
class Sender {
public:
    explicit Sender(long bit_clocks) : m_bit_clocks(bit_clocks) {}
    bool busy() const { return m_bits != 0; }
    void send(uint8_t byte) {
        m_frame = static_cast<uint16_t>(0x200 | byte << 1);
        m_bits = 10;
        m_left = m_bit_clocks;
    }
    bool level() const { return m_bits == 0 || (m_frame & 1) != 0; }
    void tick() {
        if (m_bits == 0 || --m_left != 0) return;
        m_left = m_bit_clocks;
        m_frame >>= 1;
        --m_bits;
    }

private:
    long m_bit_clocks, m_left = 0;
    int m_bits = 0;
    uint16_t m_frame = 0;
};

// The host's end of the line out of the design.
class Receiver {
public:
    explicit Receiver(long bit_clocks) : m_bit_clocks(bit_clocks) {}
    bool busy() const { return m_place >= 0; }
    bool tick(bool level, uint8_t& byte) {
        if (m_place < 0) {
            if (!level) {
                m_place = 0;
                m_left = m_bit_clocks / 2;
            }
            return false;
        }
        if (--m_left > 0) return false;
        m_left = m_bit_clocks;
        if (m_place == 0 && level) fail("the design sent a start bit that is too short");
        if (m_place == 9 && !level) fail("the design sent a byte without a stop bit");
        if (m_place >= 1 && m_place <= 8) m_byte = static_cast<uint8_t>(m_byte >> 1 | (level ? 0x80 : 0));
        byte = m_byte;
        if (m_place++ < 9) return false;
        m_place = -1;
        return true;
    }

private:
    long m_bit_clocks, m_left = 0;
    int m_place = -1;
    uint8_t m_byte = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const long bit_clocks = number(*context, "bit-clocks"), quiet_clocks = number(*context, "quiet-clocks");
    Pipe pipe(argument(*context, "from"), argument(*context, "to"));
    const auto model = std::make_unique<Vbench>(context.get());
    Sender sender(bit_clocks);
    Receiver receiver(bit_clocks);

    long cycle = 0, quiet = 0, taken = 0, given = 0;
    const auto started = std::chrono::steady_clock::now();
    while (!context->gotFinish()) {
        if (cycle % bit_clocks == 0) pipe.take(false);
        if (quiet > quiet_clocks && pipe.empty()) {
            pipe.take(true);
            if (pipe.empty() && !pipe.is_open()) break;
            quiet = 0;
        }
        // The design takes some cycles to come out of reset; the host does not talk before.
        if (!sender.busy() && !pipe.empty() && cycle > 100) {
            sender.send(pipe.next());
            ++taken;
        }
        model->clock = 0;
        model->rx = sender.level();
        model->eval();
        context->timeInc(1);
        model->clock = 1;
        model->eval();
        context->timeInc(1);
        uint8_t byte = 0;
        if (receiver.tick(model->tx, byte)) {
            pipe.give(byte);
            ++given;
        }
        quiet = sender.busy() || receiver.busy() ? 0 : quiet + 1;
        sender.tick();
        ++cycle;
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    model->final();
    std::printf("{\"cycles\": %ld, \"taken\": %ld, \"given\": %ld, \"seconds\": %.3f}\n", cycle, taken, given,
                elapsed.count());
    return 0;
}
