// What the block memories of all families have in common: 2048 bytes of 8 or 9 bits, and two ports. The model of a
// cell (ecp5.v, gowin.v) wires its pins to it.
//
// WIDTH_A, WIDTH_B    bits of a port's word: 1, 2, 4, or those of 1, 2 or 4 bytes. Narrow words use 8 bits of a byte.
// WRITES_A, WRITES_B  what a port reads while it writes: 0 nothing, it keeps its word; 1 the new word; 2 the old one.
// ASYNC_RESET         1: a reset does not wait for the clock. It clears the word that was read, not the memory.
// BYTE_BITS           8 or 9.
// PAIR_BITS           16 to 20: the distance between two pairs of bytes in INITIAL.
//
// An address counts bits of 16 K x 1:
//
//     13 ... 5 | 4 | 3 | 2 1 0
//     byte             | first bit of a word of 1, 2 or 4 bits
//     word of 2 bytes  |  - 1 0     which of its bytes are written
//     word of 4 bytes  3 2 1 0      (bit 4 is not used)
//
// Nobody promises what a port reads of a byte that the other port writes at the same edge. Here it is the complement
// of the byte, so that a design that relies on the old byte, or on the new one, does not go by unseen.
module block_memory #(
    parameter integer WIDTH_A = 36,
    parameter integer WIDTH_B = 36,
    parameter integer WRITES_A = 0,
    parameter integer WRITES_B = 0,
    parameter integer ASYNC_RESET = 0,
    parameter integer BYTE_BITS = 9,
    parameter integer PAIR_BITS = 18,
    parameter [20479:0] INITIAL = 20480'h0
) (
    input clock_a, enable_a, write_a, reset_a,
    input [13:0] address_a,
    input [35:0] given_a,
    output [35:0] read_a,
    input clock_b, enable_b, write_b, reset_b,
    input [13:0] address_b,
    input [35:0] given_b,
    output [35:0] read_b
);
    reg [8:0] memory[0:2047];
    integer row;
    initial begin
        for (row = 0; row < 2048; row = row + 1) begin
            memory[row] = INITIAL[PAIR_BITS*(row/2) + BYTE_BITS*(row%2) +: 9] & (9'h1FF >> (9 - BYTE_BITS));
        end
    end
    assign read_a = ports[0].taken;
    assign read_b = ports[1].taken;

    genvar port;
    generate
        for (port = 0; port < 2; port = port + 1) begin : ports
            localparam integer WIDTH = port == 0 ? WIDTH_A : WIDTH_B;
            localparam integer WRITES = port == 0 ? WRITES_A : WRITES_B;
            localparam integer BYTES = WIDTH > 18 ? 4 : WIDTH > 9 ? 2 : 1;
            localparam integer BITS = WIDTH / BYTES;
            localparam [10:0] LANE = BYTES - 1;
            localparam [2:0] FINE = BITS >= 8 ? 3'd0 : 3'd7 & ~(BITS - 1);
            localparam [8:0] ONES = (10'd1 << BITS) - 10'd1;

            initial begin
                if (BITS != BYTE_BITS && !(WIDTH == 1 || WIDTH == 2 || WIDTH == 4)) begin
                    $display("block_memory: words of %0d bits are not modelled", WIDTH);
                    $finish;
                end
            end
            wire clock = port == 0 ? clock_a : clock_b;
            wire enable = port == 0 ? enable_a : enable_b;
            wire write = port == 0 ? write_a : write_b;
            wire reset = port == 0 ? reset_a : reset_b;
            wire [13:0] address = port == 0 ? address_a : address_b;
            wire [35:0] given = port == 0 ? given_a : given_b;

            wire [10:0] first = address[13:3] & ~LANE;
            wire [2:0] place = address[2:0] & FINE;
            wire [8:0] mask = ONES << place;
            wire [3:0] lanes = !(enable && write) ? 4'h0 : BYTES == 1 ? 4'h1 : address[3:0];

            // The bits that this port writes now of the byte at an index.
            function [8:0] written(input [10:0] index);
                written = (index & ~LANE) == first && lanes[index[1:0] & LANE[1:0]] ? mask : 9'h0;
            endfunction

            reg [35:0] taken = 36'h0;
            wire clear = ASYNC_RESET != 0 && reset;
            reg [8:0] seen;
            reg [10:0] from;
            integer lane;
            always @(posedge clock or posedge clear) begin
                if (reset) taken <= 36'h0;
                else if (enable && (!write || WRITES != 0)) begin
                    for (lane = 0; lane < BYTES; lane = lane + 1) begin
                        from = first + lane[10:0];
                        seen = memory[from] ^ ports[1 - port].written(from);
                        if (WRITES == 1 && lanes[lane]) begin
                            taken[lane*BITS +: BITS] <= given[lane*BITS +: BITS];
                        end else taken[lane*BITS +: BITS] <= seen >> place;
                    end
                end
            end

            integer to, one;
            always @(posedge clock) begin
                for (to = 0; to < BYTES; to = to + 1) begin
                    if (lanes[to] && BITS >= 8) memory[first + to[10:0]][BITS-1:0] <= given[to*BITS +: BITS];
                end
                // Both ports may write bits of one byte: they are written one by one.
                for (one = 0; one < (BITS < 8 ? BITS : 0); one = one + 1) begin
                    if (lanes[0]) memory[first][one + place] <= given[one];
                end
            end
        end
    endgenerate
endmodule
