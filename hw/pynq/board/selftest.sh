#!/bin/bash
# Run the self-test in the environment of PYNQ's image: sudo bash selftest.sh [--batch N] [--timeout S] [--repeats N]
set -e
cd "$(dirname "$0")"
for profile in /etc/profile.d/pynq_venv.sh /etc/profile.d/xrt_setup.sh; do
    if [ -r "$profile" ]; then . "$profile"; fi
done
exec python3 selftest.py "$@"
