// Replies to the host: 8'h5C, status, DESIGN (4 bytes, the highest first), the outputs, and a CRC-16, its high byte
// first. If the status is 0, it goes over the image and all but the first byte of the reply, so that a late reply does
// not pass for that of another image. If it is not, there are no outputs, and the CRC is of the reply alone.
//
// start, status, checksum            1 in a cycle: a reply begins, to an image with this checksum
// word_data, word_valid, word_ready  the outputs; the byte in the lowest bits of a word goes first
// octet, valid, ready                bytes for the line
// busy                               a reply is not over
//
// BYTES   >= 1  of a word
// WORDS   >= 1  of the outputs
// DESIGN        what the host knows the design by
module reply_sender #(
    parameter int unsigned BYTES = 1,
    parameter int unsigned WORDS = 1,
    parameter logic [31:0] DESIGN = 32'h0
) (
    input logic clk,
    input logic rst_n,
    input logic start,
    input logic [7:0] status,
    input logic [15:0] checksum,
    input logic [8*BYTES-1:0] word_data,
    input logic word_valid,
    output logic word_ready,
    output logic [7:0] octet,
    output logic valid,
    input logic ready,
    output logic busy
);
    localparam logic [7:0] HEAD = 8'h5C;
    localparam int unsigned LEFT_BITS = $clog2(BYTES + 1);
    localparam int unsigned WORD_BITS = $clog2(WORDS + 1);

    typedef enum logic [1:0] {
        IDLE, HEADER, OUTPUTS, CHECK
    } state_e;
    state_e state;
    logic [47:0] header;  // the bytes that are left of it, the next one on top
    logic [2:0] headers;
    logic [8*BYTES-1:0] word;
    logic [LEFT_BITS-1:0] bytes;  // left of the word
    logic [WORD_BITS-1:0] words;  // left, that one not included
    logic low;  // the high byte of the checksum has gone
    logic [15:0] crc;
    wire [15:0] crc_after;
    crc16_step step (
        .previous(crc), .octet(octet), .following(crc_after)
    );

    assign busy = state != IDLE;
    assign word_ready = state == OUTPUTS && bytes == '0 && words != '0;
    always_comb begin
        unique case (state)
            HEADER: {valid, octet} = {1'b1, header[47:40]};
            OUTPUTS: {valid, octet} = {bytes != '0, word[7:0]};
            CHECK: {valid, octet} = {1'b1, low ? crc[7:0] : crc[15:8]};
            default: {valid, octet} = {1'b0, 8'h0};
        endcase
    end
    wire sent = valid && ready;
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            state <= IDLE;
        end else if (state == IDLE) begin
            header <= {HEAD, status, DESIGN};
            headers <= 3'd6;
            words <= status == '0 ? WORD_BITS'(WORDS) : '0;
            bytes <= '0;
            low <= 1'b0;
            crc <= status == '0 ? checksum : '1;
            if (start) state <= HEADER;
        end else if (state == HEADER) begin
            if (sent) begin
                header <= {header[39:0], 8'h0};
                headers <= headers - 1'b1;
                if (headers != 3'd6) crc <= crc_after;
                if (headers == 3'd1) state <= OUTPUTS;
            end
        end else if (state == OUTPUTS) begin
            if (word_ready && word_valid) begin
                word <= word_data;
                bytes <= LEFT_BITS'(BYTES);
                words <= words - 1'b1;
            end else if (sent) begin
                word <= word >> 8;
                bytes <= bytes - 1'b1;
                crc <= crc_after;
            end else if (bytes == '0 && words == '0) begin
                state <= CHECK;
            end
        end else if (sent) begin
            low <= 1'b1;
            if (low) state <= IDLE;
        end
    end
endmodule
