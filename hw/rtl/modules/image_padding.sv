// An image with a frame of one code around it: padding with any code, that of an asymmetric or bipolar zero included.
//
// in0   HEIGHT x WIDTH pixels, row by row, FOLDS words of PE codes for each.
// out0  (TOP + HEIGHT + BOTTOM) x (LEFT + WIDTH + RIGHT) pixels in the same order.
//
// PE                        >= 1  channels in a word
// FOLDS                     >= 1  words of a pixel: channels / PE
// BITS                      >= 1  width of a code
// HEIGHT, WIDTH             >= 1  pixels
// TOP, BOTTOM, LEFT, RIGHT  >= 0  pixels of the frame
// CODE                            the code of the frame, in all channels, of at most 32 bits; its sign is extended
//
// Gives a word in every cycle. The output is registered.
module image_padding #(
    parameter int unsigned PE = 1,
    parameter int unsigned FOLDS = 1,
    parameter int unsigned BITS = 8,
    parameter int unsigned HEIGHT = 4,
    parameter int unsigned WIDTH = 4,
    parameter int unsigned TOP = 1,
    parameter int unsigned BOTTOM = 1,
    parameter int unsigned LEFT = 1,
    parameter int unsigned RIGHT = 1,
    parameter int CODE = 0,
    localparam int unsigned STREAM_WIDTH = (PE * BITS + 7) / 8 * 8
) (
    input logic ap_clk,
    input logic ap_rst_n,
    // verilator lint_off UNUSEDSIGNAL
    input logic [STREAM_WIDTH-1:0] in0_V_TDATA,  // its padding is not read
    // verilator lint_on UNUSEDSIGNAL
    input logic in0_V_TVALID,
    output logic in0_V_TREADY,
    output logic [STREAM_WIDTH-1:0] out0_V_TDATA,
    output logic out0_V_TVALID,
    input logic out0_V_TREADY
);
    localparam int unsigned ROWS = TOP + HEIGHT + BOTTOM;
    localparam int unsigned COLUMNS = LEFT + WIDTH + RIGHT;
    localparam int unsigned ROW_BITS = $clog2(ROWS + 1);
    localparam int unsigned COLUMN_BITS = $clog2(COLUMNS + 1);
    localparam int unsigned FOLD_BITS = FOLDS > 1 ? $clog2(FOLDS) : 1;

    // Whether the row and the column of the next word are of the image is kept beside their counters.
    logic [ROW_BITS-1:0] row;
    logic [COLUMN_BITS-1:0] column;
    logic [FOLD_BITS-1:0] fold;
    logic row_inside;
    logic column_inside;
    wire last_fold = fold == FOLD_BITS'(FOLDS - 1);
    wire last_column = column == COLUMN_BITS'(COLUMNS - 1);
    wire last_row = row == ROW_BITS'(ROWS - 1);

    logic valid;
    wire of_image = row_inside && column_inside;
    wire advance = !valid || out0_V_TREADY;
    wire given = !of_image || in0_V_TVALID;
    assign in0_V_TREADY = advance && of_image;

    always_ff @(posedge ap_clk) begin
        if (!ap_rst_n) begin
            row <= '0;
            column <= '0;
            fold <= '0;
            row_inside <= TOP == 0;
            column_inside <= LEFT == 0;
            valid <= 1'b0;
        end else if (advance) begin
            valid <= given;
            if (given) begin
                fold <= last_fold ? '0 : fold + 1'b1;
                if (last_fold) begin
                    column <= last_column ? '0 : column + 1'b1;
                    if (last_column) column_inside <= LEFT == 0;
                    else if (column + 1'b1 == COLUMN_BITS'(LEFT)) column_inside <= 1'b1;
                    else if (column + 1'b1 == COLUMN_BITS'(LEFT + WIDTH)) column_inside <= 1'b0;
                end
                if (last_fold && last_column) begin
                    row <= last_row ? '0 : row + 1'b1;
                    if (last_row) row_inside <= TOP == 0;
                    else if (row + 1'b1 == ROW_BITS'(TOP)) row_inside <= 1'b1;
                    else if (row + 1'b1 == ROW_BITS'(TOP + HEIGHT)) row_inside <= 1'b0;
                end
            end
        end
    end

    logic [PE*BITS-1:0] codes;
    always_ff @(posedge ap_clk) if (advance) codes <= of_image ? in0_V_TDATA[PE*BITS-1:0] : {PE{BITS'(CODE)}};
    assign out0_V_TVALID = valid;
    assign out0_V_TDATA = STREAM_WIDTH'(codes);
endmodule
