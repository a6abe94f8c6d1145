// The nearest integer in LOW..HIGH, combinational.
//
// IN_BITS   >= 1      width of the integer, in two's complement
// OUT_BITS  1..32     width of the result, which is signed if LOW < 0
// LOW <= HIGH         both fit OUT_BITS
module saturator #(
    parameter int unsigned IN_BITS = 16,
    parameter int unsigned OUT_BITS = 8,
    parameter int LOW = 0,
    parameter int HIGH = 255
) (
    input logic signed [IN_BITS-1:0] integer_in,
    output logic [OUT_BITS-1:0] code
);
    localparam int unsigned BITS = IN_BITS > OUT_BITS ? IN_BITS : OUT_BITS + 1;
    localparam logic signed [BITS-1:0] LOWEST = BITS'(LOW);
    localparam logic signed [BITS-1:0] HIGHEST = BITS'(HIGH);

    wire signed [BITS-1:0] wide = BITS'(integer_in);
    assign code = wide < LOWEST ? OUT_BITS'(LOW) : wide > HIGHEST ? OUT_BITS'(HIGH) : OUT_BITS'(wide);
endmodule
