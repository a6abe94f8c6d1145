// Models of the cells of ECP5 that Yosys ships without one, as far as its synthesis uses them.
//
// What is not modelled ends the simulation: another setting must not go by unseen. The memory has 1024 words of 18
// bits, in bytes of 9, as Yosys' mapping (lattice/brams_map_16kd.v) fills it; an address counts bits of 16 K x 1.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3,
    DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
    DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3,
    DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3,
    DOB2, DOB1, DOB0
);
    parameter integer DATA_WIDTH_A = 18;
    parameter REGMODE_A = "NOREG";
    parameter CSDECODE_A = "0b000";
    parameter WRITEMODE_A = "NORMAL";
    parameter CLKAMUX = "CLKA";
    parameter integer DATA_WIDTH_B = 18;
    parameter REGMODE_B = "NOREG";
    parameter CSDECODE_B = "0b000";
    parameter WRITEMODE_B = "NORMAL";
    parameter CLKBMUX = "CLKB";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter GSR = "ENABLED";
    parameter INIT_DATA = "STATIC";
    parameter [319:0] INITVAL_00 = 320'h0;
    parameter [319:0] INITVAL_01 = 320'h0;
    parameter [319:0] INITVAL_02 = 320'h0;
    parameter [319:0] INITVAL_03 = 320'h0;
    parameter [319:0] INITVAL_04 = 320'h0;
    parameter [319:0] INITVAL_05 = 320'h0;
    parameter [319:0] INITVAL_06 = 320'h0;
    parameter [319:0] INITVAL_07 = 320'h0;
    parameter [319:0] INITVAL_08 = 320'h0;
    parameter [319:0] INITVAL_09 = 320'h0;
    parameter [319:0] INITVAL_0A = 320'h0;
    parameter [319:0] INITVAL_0B = 320'h0;
    parameter [319:0] INITVAL_0C = 320'h0;
    parameter [319:0] INITVAL_0D = 320'h0;
    parameter [319:0] INITVAL_0E = 320'h0;
    parameter [319:0] INITVAL_0F = 320'h0;
    parameter [319:0] INITVAL_10 = 320'h0;
    parameter [319:0] INITVAL_11 = 320'h0;
    parameter [319:0] INITVAL_12 = 320'h0;
    parameter [319:0] INITVAL_13 = 320'h0;
    parameter [319:0] INITVAL_14 = 320'h0;
    parameter [319:0] INITVAL_15 = 320'h0;
    parameter [319:0] INITVAL_16 = 320'h0;
    parameter [319:0] INITVAL_17 = 320'h0;
    parameter [319:0] INITVAL_18 = 320'h0;
    parameter [319:0] INITVAL_19 = 320'h0;
    parameter [319:0] INITVAL_1A = 320'h0;
    parameter [319:0] INITVAL_1B = 320'h0;
    parameter [319:0] INITVAL_1C = 320'h0;
    parameter [319:0] INITVAL_1D = 320'h0;
    parameter [319:0] INITVAL_1E = 320'h0;
    parameter [319:0] INITVAL_1F = 320'h0;
    parameter [319:0] INITVAL_20 = 320'h0;
    parameter [319:0] INITVAL_21 = 320'h0;
    parameter [319:0] INITVAL_22 = 320'h0;
    parameter [319:0] INITVAL_23 = 320'h0;
    parameter [319:0] INITVAL_24 = 320'h0;
    parameter [319:0] INITVAL_25 = 320'h0;
    parameter [319:0] INITVAL_26 = 320'h0;
    parameter [319:0] INITVAL_27 = 320'h0;
    parameter [319:0] INITVAL_28 = 320'h0;
    parameter [319:0] INITVAL_29 = 320'h0;
    parameter [319:0] INITVAL_2A = 320'h0;
    parameter [319:0] INITVAL_2B = 320'h0;
    parameter [319:0] INITVAL_2C = 320'h0;
    parameter [319:0] INITVAL_2D = 320'h0;
    parameter [319:0] INITVAL_2E = 320'h0;
    parameter [319:0] INITVAL_2F = 320'h0;
    parameter [319:0] INITVAL_30 = 320'h0;
    parameter [319:0] INITVAL_31 = 320'h0;
    parameter [319:0] INITVAL_32 = 320'h0;
    parameter [319:0] INITVAL_33 = 320'h0;
    parameter [319:0] INITVAL_34 = 320'h0;
    parameter [319:0] INITVAL_35 = 320'h0;
    parameter [319:0] INITVAL_36 = 320'h0;
    parameter [319:0] INITVAL_37 = 320'h0;
    parameter [319:0] INITVAL_38 = 320'h0;
    parameter [319:0] INITVAL_39 = 320'h0;
    parameter [319:0] INITVAL_3A = 320'h0;
    parameter [319:0] INITVAL_3B = 320'h0;
    parameter [319:0] INITVAL_3C = 320'h0;
    parameter [319:0] INITVAL_3D = 320'h0;
    parameter [319:0] INITVAL_3E = 320'h0;
    parameter [319:0] INITVAL_3F = 320'h0;
    localparam [20479:0] INITIAL = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
    INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31,
    INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
    INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F,
    INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
    INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D,
    INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
    INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

    reg [17:0] memory[0:1023];
    integer row;
    initial begin
        for (row = 0; row < 1024; row = row + 1) memory[row] = INITIAL[20*row +: 18];
    end
    always @(posedge CLKA or posedge CLKB) begin
        if (RESETMODE != "SYNC" && (RSTA || RSTB)) begin
            $display("DP16KD: a reset in the mode %s is not modelled", RESETMODE);
            $finish;
        end
    end

    // With 36 bits there is one port to write, A, and one to read, B: the data pins of both are one word of 36 bits,
    // the upper half on B, which lies in two words of the memory. The lowest address pins are byte enables then.
    localparam WIDE_WRITE = DATA_WIDTH_A == 36;
    localparam WIDE_READ = DATA_WIDTH_B == 36;
    reg [17:0] upper = 18'h0;

    // Port A.
    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1,
        ADA0};
    wire [17:0] given_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
        DIA4, DIA3, DIA2, DIA1, DIA0};
    reg [17:0] taken_a = 18'h0;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
        DOA2, DOA1, DOA0} = WIDE_READ ? taken_b : taken_a;
    initial begin
        if (REGMODE_A != "NOREG" || CSDECODE_A != "0b000" || CLKAMUX != "CLKA") begin
            $display("DP16KD: this setting of port A is not modelled");
            $finish;
        end
        if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "READBEFOREWRITE") begin
            $display("DP16KD: this way of writing on port A is not modelled");
            $finish;
        end
        case (DATA_WIDTH_A)
            1, 2, 4, 9, 18, 36: ;
            default: begin
                $display("DP16KD: %0d bits on port A are not modelled", DATA_WIDTH_A);
                $finish;
            end
        endcase
    end
    // A narrow word begins at a bit of its byte of 9 bits, of which words of 1, 2 and 4 bits use 8.
    wire [9:0] word_a = WIDE_WRITE ? {address_a[13:5], 1'b0} : address_a[13:4];
    wire [4:0] first_a = DATA_WIDTH_A >= 18 ? 5'd0 : (address_a[3] ? 5'd9 : 5'd0) + (DATA_WIDTH_A == 9 ? 5'd0 :
        DATA_WIDTH_A == 4 ? {2'b0, address_a[2], 2'b0} :
        DATA_WIDTH_A == 2 ? {2'b0, address_a[2:1], 1'b0} : {2'b0, address_a[2:0]});
    wire [17:0] ones_a = DATA_WIDTH_A >= 18 ? 18'h3FFFF : (18'd1 << DATA_WIDTH_A) - 18'd1;
    wire [17:0] mask_a = DATA_WIDTH_A >= 18 ? {{9{address_a[1]}}, {9{address_a[0]}}} : ones_a << first_a;
    wire [17:0] placed_a = given_a << first_a;
    integer bit_a;
    always @(posedge CLKA) begin
        if (CEA) begin
            if (RSTA) taken_a <= 18'h0;
            else if (!WEA || WRITEMODE_A == "READBEFOREWRITE") taken_a <= (memory[word_a] >> first_a) & ones_a;
            for (bit_a = 0; bit_a < 18; bit_a = bit_a + 1) begin
                if (WEA && mask_a[bit_a]) memory[word_a][bit_a] <= placed_a[bit_a];
                if (WEA && WIDE_WRITE && address_a[bit_a < 9 ? 2 : 3]) begin
                    memory[word_a + 10'd1][bit_a] <= given_b[bit_a];
                end
            end
        end
    end

    // Port B.
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1,
        ADB0};
    wire [17:0] given_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0};
    reg [17:0] taken_b = 18'h0;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3,
        DOB2, DOB1, DOB0} = WIDE_READ ? upper : taken_b;
    initial begin
        if (REGMODE_B != "NOREG" || CSDECODE_B != "0b000" || CLKBMUX != "CLKB") begin
            $display("DP16KD: this setting of port B is not modelled");
            $finish;
        end
        if (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "READBEFOREWRITE") begin
            $display("DP16KD: this way of writing on port B is not modelled");
            $finish;
        end
        case (DATA_WIDTH_B)
            1, 2, 4, 9, 18, 36: ;
            default: begin
                $display("DP16KD: %0d bits on port B are not modelled", DATA_WIDTH_B);
                $finish;
            end
        endcase
    end
    // A narrow word begins at a bit of its byte of 9 bits, of which words of 1, 2 and 4 bits use 8.
    wire [9:0] word_b = WIDE_READ ? {address_b[13:5], 1'b0} : address_b[13:4];
    wire [4:0] first_b = DATA_WIDTH_B >= 18 ? 5'd0 : (address_b[3] ? 5'd9 : 5'd0) + (DATA_WIDTH_B == 9 ? 5'd0 :
        DATA_WIDTH_B == 4 ? {2'b0, address_b[2], 2'b0} :
        DATA_WIDTH_B == 2 ? {2'b0, address_b[2:1], 1'b0} : {2'b0, address_b[2:0]});
    wire [17:0] ones_b = DATA_WIDTH_B >= 18 ? 18'h3FFFF : (18'd1 << DATA_WIDTH_B) - 18'd1;
    wire [17:0] mask_b = DATA_WIDTH_B >= 18 ? {{9{address_b[1]}}, {9{address_b[0]}}} : ones_b << first_b;
    wire [17:0] placed_b = given_b << first_b;
    integer bit_b;
    always @(posedge CLKB) begin
        if (CEB) begin
            if (RSTB) taken_b <= 18'h0;
            else if (!WEB || WRITEMODE_B == "READBEFOREWRITE") taken_b <= (memory[word_b] >> first_b) & ones_b;
            upper <= RSTB ? 18'h0 : memory[word_b + 10'd1];
            for (bit_b = 0; bit_b < 18; bit_b = bit_b + 1) begin
                if (WEB && mask_b[bit_b]) memory[word_b][bit_b] <= placed_b[bit_b];
            end
        end
    end
endmodule

// 18 x 18 bits, without registers, which is how the synthesis uses it.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
    P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [18:0] wide_a = {SIGNEDA && a[17], a};
    wire signed [18:0] wide_b = {SIGNEDB && b[17], b};
    wire signed [37:0] product = wide_a * wide_b;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
    P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
endmodule

// The clock as it comes: a simulation counts cycles of the design's clock.
module EHXPLLL (
    input CLKI, CLKFB, PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC, RST, ENCLKOP,
    output CLKOP, LOCK
);
    parameter CLKI_DIV = 1;
    parameter CLKFB_DIV = 1;
    parameter CLKOP_DIV = 8;
    parameter CLKOP_ENABLE = "ENABLED";
    parameter CLKOP_CPHASE = 0;
    parameter CLKOP_FPHASE = 0;
    parameter FEEDBK_PATH = "CLKOP";
    parameter INTFB_WAKE = "DISABLED";
    parameter STDBY_ENABLE = "DISABLED";
    parameter DPHASE_SOURCE = "DISABLED";
    parameter PLLRST_ENA = "DISABLED";
    parameter OUTDIVIDER_MUXA = "DIVA";
    assign CLKOP = CLKI;
    assign LOCK = 1'b1;
endmodule
