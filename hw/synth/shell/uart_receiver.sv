// A serial line to bytes: 1 start bit, 8 data bits with the lowest first, 1 stop bit, no parity.
//
// line    the serial line, idle at 1, in any phase to clk
// octet   a byte; valid is 1 in the one cycle in which it is there
//
// CLOCKS_PER_BIT  >= 4  clock cycles of a bit: the frequency of clk by the baud rate
//
// A bit is sampled in its middle. A start bit that is gone in its middle is a glitch; a byte whose stop bit is 0 is
// dropped, and the line has to be idle before the next one.
module uart_receiver #(
    parameter int unsigned CLOCKS_PER_BIT = 100
) (
    input logic clk,
    input logic rst_n,
    input logic line,
    output logic [7:0] octet,
    output logic valid
);
    localparam int unsigned TIMER_BITS = $clog2(CLOCKS_PER_BIT);
    localparam logic [TIMER_BITS-1:0] HALF = TIMER_BITS'(CLOCKS_PER_BIT / 2 - 1);
    localparam logic [TIMER_BITS-1:0] WHOLE = TIMER_BITS'(CLOCKS_PER_BIT - 1);
    localparam logic [3:0] START = 4'd0;
    localparam logic [3:0] STOP = 4'd9;

    logic [1:0] settled;  // two registers against metastability
    wire level = settled[1];
    always_ff @(posedge clk) begin
        if (!rst_n) settled <= '1;
        else settled <= {settled[0], line};
    end

    logic busy;
    logic ready;  // the line was idle since the last byte
    logic [3:0] place;  // START, 8 data bits, STOP
    logic [TIMER_BITS-1:0] timer;
    wire sample = busy && timer == '0;
    always_ff @(posedge clk) begin
        valid <= 1'b0;
        if (!rst_n) begin
            busy <= 1'b0;
            ready <= 1'b0;
        end else if (!busy) begin
            place <= START;
            timer <= HALF;
            if (level) ready <= 1'b1;
            else busy <= ready;
        end else if (!sample) begin
            timer <= timer - 1'b1;
        end else begin
            timer <= WHOLE;
            place <= place + 1'b1;
            if (place == START) begin
                busy <= !level;
            end else if (place == STOP) begin
                busy <= 1'b0;
                ready <= level;
                valid <= level;
            end else begin
                octet <= {level, octet[7:1]};
            end
        end
    end
endmodule
