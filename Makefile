# Every stage of the pipeline is a target here; `make help` lists them.
CONFIG ?= configs/fashion_mnist_mlp.yaml
RUNS ?= runs
BITPROOF := .venv/bin/bitproof
BOARD_OPTION = $(if $(BOARD),--board $(BOARD))
RUN = $(BITPROOF) run $(CONFIG) --runs $(RUNS)

.DEFAULT_GOAL := help
.PHONY: help setup doctor pipeline data train-float train export integer onnx-int8 finn rtl firmware parity report verify \
        import lint explain calibrate bitstream bundle deploy bench-estimators bench-calibration bench-onnx-web bench-integer bench-mcu bench-mcu-exactness bench-onnx bench-onnx-versions \
        bench-runtime-image bench-rtl-modules bench-pynq bench-bitstream bench-fpga test test-fast soak check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  CONFIG=configs/X.yaml chooses another run (now: $(CONFIG))"

setup: ## install everything that is missing: Debian packages and .venv
	@docker/install.sh

doctor: setup ## show every tool, its version, and how to install it
	@$(BITPROOF) doctor

pipeline: setup ## set up, run CONFIG from data to report, say where the report is
	@$(RUN)

data: setup ## read the data set
	@$(RUN) --until data

train-float: setup ## train the float baseline
	@$(RUN) --until train-float

train: setup ## train the quantized network
	@$(RUN) --until train

export: setup ## export it to QONNX
	@$(RUN) --until export

integer: setup ## lower it to the integer model, with proofs
	@$(RUN) --until integer

onnx-int8: setup ## write packed-int8 ONNX and compare it
	@$(RUN) --until check-onnx-int8

finn: setup ## make FINN's hardware graph and compare it
	@$(RUN) --until check-finn-hw

rtl: setup ## make the RTL, simulate it in Verilator and compare it
	@$(RUN) --until check-rtl

firmware: setup ## compile the firmware, run it in QEMU and compare it
	@$(RUN) --until check-c-cortex-m4

parity: setup ## compare every executor and write the ledger
	@$(RUN) --until parity

report: setup ## write the report
	@$(RUN) --until report

verify: setup ## check the run of CONFIG again from its artifacts
	@$(BITPROOF) verify $(RUNS)/$(notdir $(basename $(CONFIG)))

import: setup ## import a QONNX file: make import MODEL=net.onnx OPTIONS="--target onnx-int8 --vectors x.npy"
	@$(if $(MODEL),,$(error import needs a file: make import MODEL=net.onnx [OPTIONS="--target onnx-int8"]))
	@$(BITPROOF) import $(MODEL) --runs $(RUNS) $(OPTIONS)

lint: setup ## say before training whether CONFIG (or OPTIONS="--target SPEC") deploys
	@$(BITPROOF) lint $(CONFIG) $(OPTIONS)

explain: setup ## say where the executors of the run of CONFIG part: make explain OPTIONS="--flip-bit onnx-int8"
	@$(BITPROOF) explain $(RUNS)/$(notdir $(basename $(CONFIG))) $(OPTIONS)

calibrate: setup ## tune the run of CONFIG on a device: make calibrate OPTIONS="--executor onnx-int8"
	@$(BITPROOF) calibrate $(RUNS)/$(notdir $(basename $(CONFIG))) $(OPTIONS)

bitstream: setup ## write, check and (with Vivado) build the PYNQ design of the run of CONFIG: make bitstream BOARD=pynq-z1
	@$(BITPROOF) bitstream $(RUNS)/$(notdir $(basename $(CONFIG))) $(BOARD_OPTION)

bundle: setup ## write dist/NAME, the folder that goes onto a board: make bundle OPTIONS="--bit design.bit"
	@$(BITPROOF) bundle $(RUNS)/$(notdir $(basename $(CONFIG))) $(BOARD_OPTION) $(OPTIONS)

deploy: setup ## upload the run of CONFIG to a board, run it there, compare: make deploy BOARD_HOST=xilinx@192.168.2.99
	@$(if $(BOARD_HOST),,$(error deploy needs a board: make deploy BOARD_HOST=xilinx@192.168.2.99))
	@$(BITPROOF) deploy $(RUNS)/$(notdir $(basename $(CONFIG))) --to $(BOARD_HOST) $(BOARD_OPTION) $(OPTIONS)

bench-estimators: setup ## measure the gradient estimators (hours; resumes where it was stopped)
	@.venv/bin/python -m benchmarks.estimators

bench-calibration: setup ## measure calibration on simulated chips (25 minutes; resumes where it was stopped)
	@.venv/bin/python -m benchmarks.calibration

bench-onnx: setup ## measure packed-int8 ONNX files beside float32 and other quantized forms (12 minutes)
	@.venv/bin/python -m benchmarks.onnx_int8

bench-onnx-versions: setup ## run these files in old and new onnxruntime, and on a processor with AVX2 alone (5 minutes)
	@.venv/bin/python -m benchmarks.onnx_versions

bench-runtime-image: setup ## make the image of examples/runtime.Dockerfile in a fresh root and measure it (root; 3 minutes)
	@.venv/bin/python -m benchmarks.runtime_image

bench-onnx-web: setup ## run these files in onnxruntime-web, in headless Chromium (2 minutes; needs npm and chromium)
	@.venv/bin/python -m benchmarks.onnx_web

bench-mcu: setup ## count instructions, flash and RAM of generated C in QEMU (10 minutes)
	@.venv/bin/python -m benchmarks.mcu

bench-mcu-exactness: setup ## compare the built-in networks in C with the integer model on every core, in QEMU (25 minutes)
	@.venv/bin/python -m benchmarks.mcu_exactness

bench-rtl-modules: setup ## synthesize our SystemVerilog modules with Yosys and count their cells (needs bitproof[synth]; 10 minutes)
	@.venv/bin/python -m benchmarks.rtl_modules

bench-pynq: setup ## run the PYNQ driver of the run of CONFIG under pynq 3.0.1 and 4.0.0, and as 32-bit ARM (root; 10 minutes)
	@.venv/bin/python -m benchmarks.pynq_versions $(RUNS)/$(notdir $(basename $(CONFIG)))
	@.venv/bin/python -m benchmarks.pynq_arm $(RUNS)/$(notdir $(basename $(CONFIG)))

bench-fpga: setup ## build and simulate the RTL of whole networks (an hour)
	@.venv/bin/python -m benchmarks.fpga

bench-bitstream: setup ## build bitstreams for open FPGAs and measure them (an hour; needs bitproof[synth])
	@.venv/bin/python -m benchmarks.bitstream

bench-integer: setup ## measure lowering, proofs, interpreter and imports (8 minutes)
	@.venv/bin/python -m benchmarks.integer

# Each of the two processes has one thread: two in each would wait for each other on two cores.
TEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup

test: setup ## pass all tests
	@$(TEST) --durations=25

test-fast: setup ## pass the tests that need no external program
	@$(TEST) -m "not tool and not end_to_end and not slow"

soak: setup ## kill a run 60 times, in all of its stages, fill its disk 9 times, and compare what it ends with (20 minutes)
	@.venv/bin/python -m pytest tests/end_to_end/test_soak.py tests/end_to_end/test_full_disk.py \
		--kills 50 --stage-kills 10 --disks 9

check: setup ## format, lint, types, layering
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -q tests/test_layers.py

format: setup ## format the sources
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

clean: ## delete all runs
	rm -rf $(RUNS)
