#!/bin/sh
# Set up everything bitproof needs: Debian packages (apt) and a Python environment in .venv. Idempotent; a no-op when done.
#   docker/install.sh [EXTRAS]     EXTRAS: what pip installs, default all,dev
set -eu
cd "$(dirname "$0")/.."
extras=${1:-all,dev}
stamp=.venv/.bitproof-setup
wanted=$(cat pyproject.toml docker/packages.txt docker/constraints.txt docker/install.sh | sha256sum | cut -d' ' -f1)-$extras

packages=$(sed 's/#.*//' docker/packages.txt)
missing=
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo=sudo; else sudo=no; fi
    if [ "$sudo" != no ] && command -v apt-get >/dev/null; then
        echo "installing Debian packages:$missing" >&2
        $sudo apt-get update -qq >&2
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
    else
        echo "Missing packages that this user may not install:$missing" >&2
        echo "Ask an administrator for: apt-get install --no-install-recommends$missing" >&2
        echo "The targets that need them will say so and the others will run." >&2
    fi
fi

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || {
    echo "bitproof needs Python 3.11 or 3.12; $python is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
    exit 3
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing Python packages into .venv (about 7.5 GB with PyTorch, some minutes)" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c docker/constraints.txt -e ".[$extras]" >&2
echo "$wanted" > "$stamp"
echo "setup done" >&2
