// One output of a matrix unit: SIMD products in a cycle, their sum, and its accumulation.
//
// codes, weights  of one cycle; their sum reaches the accumulator 1 + $clog2(SIMD) enabled cycles later
// collect         the sum is added to the accumulator; with start, it replaces what that holds
//
// SIMD, CODE_BITS, CODE_KIND, WEIGHT_BITS, WEIGHT_KIND, ACC_BITS: as for the matrix unit
// MW              inputs of the whole row
//
// Products of bipolar codes and weights are +1 where the bits are equal and -1 otherwise: twice the number of equal bits
// less MW, which the accumulator begins with.
module matrix_row #(
    parameter int unsigned SIMD = 4,
    parameter int unsigned CODE_BITS = 4,
    parameter int unsigned CODE_KIND = 0,
    parameter int unsigned WEIGHT_BITS = 2,
    parameter int unsigned WEIGHT_KIND = 1,
    parameter int unsigned ACC_BITS = 16,
    parameter int unsigned MW = 8
) (
    input logic clk,
    input logic advance,
    input logic [SIMD-1:0][CODE_BITS-1:0] codes,
    input logic [SIMD-1:0][WEIGHT_BITS-1:0] weights,
    input logic collect,
    input logic start,
    output logic [ACC_BITS-1:0] sum
);
    localparam int unsigned BIPOLAR = 2;
    localparam bit COUNTS = CODE_KIND == BIPOLAR && WEIGHT_KIND == BIPOLAR;
    localparam int unsigned PRODUCT_BITS =
        COUNTS ? 1 : CODE_BITS + WEIGHT_BITS + (CODE_KIND == 0 && WEIGHT_KIND == 0 ? 1 : 0);
    localparam int unsigned TREE_BITS = PRODUCT_BITS + $clog2(SIMD);
    localparam logic [ACC_BITS-1:0] FIRST = COUNTS ? ACC_BITS'(0) - ACC_BITS'(MW) : '0;

    logic [SIMD-1:0][PRODUCT_BITS-1:0] products;
    wire [TREE_BITS-1:0] total;
    for (genvar lane = 0; lane < SIMD; lane++) begin : lanes
        wire [PRODUCT_BITS-1:0] product;
        if (COUNTS) begin : equal
            assign product = codes[lane] ~^ weights[lane];
        end else begin : multiplied
            code_product #(
                .CODE_BITS(CODE_BITS), .CODE_KIND(CODE_KIND), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_KIND(WEIGHT_KIND)
            ) multiplier (
                .code(codes[lane]), .weight(weights[lane]), .product(product)
            );
        end
        always_ff @(posedge clk) if (advance) products[lane] <= product;
    end
    adder_tree #(
        .COUNT(SIMD), .BITS(PRODUCT_BITS), .SIGNED(!COUNTS)
    ) tree (
        .clk(clk), .enable(advance), .summands(products), .sum(total)
    );
    wire [ACC_BITS-1:0] term = COUNTS ? ACC_BITS'({total, 1'b0}) : ACC_BITS'($signed(total));
    always_ff @(posedge clk) if (collect) sum <= (start ? FIRST : sum) + term;
endmodule
