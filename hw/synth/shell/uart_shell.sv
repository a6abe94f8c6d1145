// The stitched network behind a serial line: an image comes in, its outputs go out, one after the other.
//
// rx, tx    the serial lines, as the FPGA sees them; see frame_receiver and reply_sender for what goes over them
// busy      an image is being computed, or its reply is sent; frames that begin then are dropped
// rejected  the last frame was not whole
//
// CLOCKS_PER_BIT          clock cycles of a bit on the lines
// SILENCE                 cycles without a byte after which a frame counts as stopped
// IN_BYTES, IN_WORDS      the stream of one image: bytes of a word, words
// OUT_BYTES, OUT_WORDS    the same of its outputs
// DESIGN                  what the host knows the design by
module uart_shell #(
    parameter int unsigned CLOCKS_PER_BIT = 100,
    parameter int unsigned SILENCE = 10000000,
    parameter int unsigned IN_BYTES = 1,
    parameter int unsigned IN_WORDS = 16,
    parameter int unsigned OUT_BYTES = 2,
    parameter int unsigned OUT_WORDS = 3,
    parameter logic [31:0] DESIGN = 32'h0
) (
    input logic clk,
    input logic rst_n,
    input logic rx,
    output logic tx,
    output logic busy,
    output logic rejected
);
    localparam int unsigned LENGTH = IN_BYTES * IN_WORDS;
    localparam int unsigned ADDRESS_BITS = LENGTH > 1 ? $clog2(LENGTH) : 1;

    wire [7:0] received, content, sent, status;
    wire [15:0] checksum;
    wire received_valid, sent_valid, sent_ready, write, done;
    wire [ADDRESS_BITS-1:0] address;
    uart_receiver #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) receiver (
        .clk(clk), .rst_n(rst_n), .line(rx), .octet(received), .valid(received_valid)
    );
    frame_receiver #(.LENGTH(LENGTH), .SILENCE(SILENCE)) frames (
        .clk(clk), .rst_n(rst_n), .octet(received), .valid(received_valid), .enable(!busy), .write(write),
        .address(address), .content(content), .done(done), .status(status), .checksum(checksum)
    );
    always_ff @(posedge clk) begin
        if (!rst_n) rejected <= 1'b0;
        else if (done) rejected <= status != '0;
    end

    wire [8*IN_BYTES-1:0] in_data;
    wire [8*OUT_BYTES-1:0] out_data;
    wire in_valid, in_ready, out_valid, out_ready;
    image_buffer #(.BYTES(IN_BYTES), .WORDS(IN_WORDS)) image (
        .clk(clk), .rst_n(rst_n), .write(write), .address(address), .content(content),
        .start(done && status == '0), .word_data(in_data), .word_valid(in_valid), .word_ready(in_ready)
    );
    finn_top network (
        .ap_clk(clk), .ap_rst_n(rst_n),
        .s_axis_tdata(in_data), .s_axis_tvalid(in_valid), .s_axis_tready(in_ready),
        .m_axis_tdata(out_data), .m_axis_tvalid(out_valid), .m_axis_tready(out_ready)
    );

    reply_sender #(.BYTES(OUT_BYTES), .WORDS(OUT_WORDS), .DESIGN(DESIGN)) reply (
        .clk(clk), .rst_n(rst_n), .start(done), .status(status), .checksum(checksum), .word_data(out_data),
        .word_valid(out_valid), .word_ready(out_ready), .octet(sent), .valid(sent_valid), .ready(sent_ready), .busy(busy)
    );
    uart_transmitter #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) transmitter (
        .clk(clk), .rst_n(rst_n), .octet(sent), .valid(sent_valid), .ready(sent_ready), .line(tx)
    );
endmodule
