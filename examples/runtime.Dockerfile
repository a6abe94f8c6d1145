# A packed-int8 file served without torch, by examples/serve.py. In the root of the repository:
#   docker build -f examples/runtime.Dockerfile -t bitproof-runtime .
#   docker run --rm --read-only -p 127.0.0.1:8471:8471 -v "$PWD/model.onnx:/model.onnx:ro" bitproof-runtime
# The program's folder holds all that it needs of bitproof: three modules, which import numpy and onnxruntime alone.
FROM debian:12-slim
# One layer: what only the installation needs (pip, the certificates that come with it) is taken away in it.
# onnxruntime's other dependencies serve its tools for converting files, which are not used here.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3 python3-venv \
    && python3 -m venv /opt/runtime \
    && /opt/runtime/bin/pip install -q --no-cache-dir --no-deps numpy==2.4.6 onnxruntime==1.25.1 \
    && /opt/runtime/bin/pip uninstall -q -y setuptools pip \
    && apt-get purge -y -qq --auto-remove python3-venv \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
COPY bitproof/__init__.py bitproof/session.py bitproof/session_file.py /srv/bitproof/
COPY examples/serve.py /srv/
USER 10001:10001
EXPOSE 8471
HEALTHCHECK --interval=30s --timeout=5s CMD ["/opt/runtime/bin/python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8471/')"]
CMD ["/opt/runtime/bin/python", "/srv/serve.py", "/model.onnx", "--host", "0.0.0.0", "--port", "8471"]
