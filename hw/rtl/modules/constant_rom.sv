// A memory of constants with a registered output.
//
// WIDTH  >= 1  bits of a word
// DEPTH  >= 1  words
// FILE         for $readmemh, a word in a line; relative to the folder in which the tool runs
//
// Block or distributed memory is inferred, as the tool sees fit.
module constant_rom #(
    parameter int unsigned WIDTH = 8,
    parameter int unsigned DEPTH = 4,
    parameter FILE = "",
    localparam int unsigned ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input logic clk,
    input logic enable,
    input logic [ADDRESS_BITS-1:0] address,
    output logic [WIDTH-1:0] word
);
    logic [WIDTH-1:0] words[DEPTH];
    initial $readmemh(FILE, words);

    always_ff @(posedge clk) if (enable) word <= words[address];
endmodule
