"""The parts of ``benchmarks.estimators``: data, networks, methods with their controls, training, measurements."""
