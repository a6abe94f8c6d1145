// The product of a code and a weight, combinational.
//
// CODE_BITS, WEIGHT_BITS  >= 1  widths
// CODE_KIND, WEIGHT_KIND        0: unsigned, 1: two's complement, 2: bipolar, one bit that is 1 for +1 and 0 for -1
// PRODUCT_BITS                  follows: holds every product, in two's complement
//
// A bipolar weight and one of up to 2 bits are selections and an addition, which need no multiplier; the synthesis of a
// 2-bit product would otherwise take a DSP slice on some families.
module code_product #(
    parameter int unsigned CODE_BITS = 8,
    parameter int unsigned CODE_KIND = 0,
    parameter int unsigned WEIGHT_BITS = 4,
    parameter int unsigned WEIGHT_KIND = 1,
    localparam int unsigned PRODUCT_BITS = CODE_BITS + WEIGHT_BITS + (CODE_KIND == 0 && WEIGHT_KIND == 0 ? 1 : 0)
) (
    input logic [CODE_BITS-1:0] code,
    input logic [WEIGHT_BITS-1:0] weight,
    output logic signed [PRODUCT_BITS-1:0] product
);
    localparam int unsigned UNSIGNED = 0;
    localparam int unsigned BIPOLAR = 2;

    wire signed [PRODUCT_BITS-1:0] wide;  // the integer that the code stands for
    if (CODE_KIND == BIPOLAR) begin : bipolar_code
        assign wide = code[0] ? PRODUCT_BITS'(1) : '1;
    end else if (CODE_KIND == UNSIGNED) begin : unsigned_code
        assign wide = PRODUCT_BITS'(code);
    end else begin : signed_code
        assign wide = PRODUCT_BITS'($signed(code));
    end

    if (WEIGHT_KIND == BIPOLAR) begin : selected
        assign product = weight[0] ? wide : -wide;
    end else if (WEIGHT_BITS == 1) begin : gated
        wire signed [PRODUCT_BITS-1:0] once = weight[0] ? wide : '0;
        assign product = WEIGHT_KIND == UNSIGNED ? once : -once;
    end else if (WEIGHT_BITS == 2) begin : added
        wire signed [PRODUCT_BITS-1:0] once = weight[0] ? wide : '0;
        wire signed [PRODUCT_BITS-1:0] twice = weight[1] ? wide <<< 1 : '0;
        assign product = WEIGHT_KIND == UNSIGNED ? once + twice : once - twice;
    end else begin : multiplied
        wire signed [PRODUCT_BITS-1:0] factor =
            WEIGHT_KIND == UNSIGNED ? PRODUCT_BITS'(weight) : PRODUCT_BITS'($signed(weight));
        assign product = wide * factor;
    end
endmodule
