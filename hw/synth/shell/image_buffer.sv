// The image that came in, byte by byte, and the same as words of a stream, the first byte in the lowest bits.
//
// write, address, content  a byte of the image
// start                    1 in a cycle: all words follow on the stream
// word_data, word_valid, word_ready  the stream
//
// BYTES  >= 1  of a word
// WORDS  >= 1  of an image
module image_buffer #(
    parameter int unsigned BYTES = 1,
    parameter int unsigned WORDS = 16,
    localparam int unsigned LENGTH = BYTES * WORDS,
    localparam int unsigned ADDRESS_BITS = LENGTH > 1 ? $clog2(LENGTH) : 1
) (
    input logic clk,
    input logic rst_n,
    input logic write,
    input logic [ADDRESS_BITS-1:0] address,
    input logic [7:0] content,
    input logic start,
    output logic [8*BYTES-1:0] word_data,
    output logic word_valid,
    input logic word_ready
);
    localparam int unsigned PLACE_BITS = BYTES > 1 ? $clog2(BYTES) : 1;
    localparam int unsigned COUNT_BITS = $clog2(LENGTH + 1);

    logic [7:0] memory[LENGTH];
    logic [7:0] octet;
    logic [ADDRESS_BITS-1:0] from;
    always_ff @(posedge clk) begin
        if (write) memory[address] <= content;
        octet <= memory[from];
    end

    // A byte is read in one cycle and shifted in in the next; a word that is whole waits for the stream.
    logic [COUNT_BITS-1:0] left;
    logic [PLACE_BITS-1:0] place;
    logic fetched;
    wire fetch = left != '0 && !fetched && !word_valid;
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            left <= '0;
            fetched <= 1'b0;
            word_valid <= 1'b0;
        end else begin
            fetched <= fetch;
            if (start) begin
                left <= COUNT_BITS'(LENGTH);
                from <= '0;
                place <= '0;
            end else if (fetched) begin
                left <= left - 1'b1;
                from <= from + 1'b1;
                place <= place == PLACE_BITS'(BYTES - 1) ? '0 : place + 1'b1;
                if (place == PLACE_BITS'(BYTES - 1)) word_valid <= 1'b1;
            end else if (word_ready) begin
                word_valid <= 1'b0;
            end
        end
    end
    if (BYTES == 1) begin : single
        always_ff @(posedge clk) if (fetched) word_data <= octet;
    end else begin : several
        always_ff @(posedge clk) if (fetched) word_data <= {octet, word_data[8*BYTES-1:8]};
    end
endmodule
