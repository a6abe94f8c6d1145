// The sum of COUNT integers, pairwise, with a register behind every level: $clog2(COUNT) enabled cycles late.
//
// COUNT   >= 1  summands; a single one goes through without a register
// BITS    >= 1  width of a summand
// SIGNED        1: in two's complement, 0: unsigned
//
// The sum is $clog2(COUNT) bits wider than a summand, so it always fits. The registers have no reset: what they hold
// before data arrive is not used.
module adder_tree #(
    parameter int unsigned COUNT = 4,
    parameter int unsigned BITS = 8,
    parameter bit SIGNED = 1,
    localparam int unsigned LEVELS = $clog2(COUNT)
) (
    // verilator lint_off UNUSEDSIGNAL
    input logic clk,  // a single summand needs none
    input logic enable,
    // verilator lint_on UNUSEDSIGNAL
    input logic [COUNT-1:0][BITS-1:0] summands,
    output logic [BITS+LEVELS-1:0] sum
);
    for (genvar level = 0; level <= LEVELS; level++) begin : levels
        localparam int unsigned WIDTH = BITS + level;
        localparam int unsigned LEFT = (COUNT + (1 << level) - 1) >> level;
        logic [LEFT-1:0][WIDTH-1:0] sums;

        if (level == 0) begin : source
            assign sums = summands;
        end else begin : pairs
            for (genvar index = 0; index < LEFT; index++) begin : sums_of_two
                wire [WIDTH-2:0] one = levels[level-1].sums[2*index];
                wire [WIDTH-1:0] wide = SIGNED ? WIDTH'($signed(one)) : WIDTH'(one);
                if (2 * index + 1 < (COUNT + (1 << (level - 1)) - 1) >> (level - 1)) begin : two
                    wire [WIDTH-2:0] other = levels[level-1].sums[2*index+1];
                    wire [WIDTH-1:0] other_wide = SIGNED ? WIDTH'($signed(other)) : WIDTH'(other);
                    always_ff @(posedge clk) if (enable) sums[index] <= wide + other_wide;
                end else begin : odd_one
                    always_ff @(posedge clk) if (enable) sums[index] <= wide;
                end
            end
        end
    end
    assign sum = levels[LEVELS].sums;
endmodule
