#!/usr/bin/env bash
# Runs once, when the container has been made: everything that the chapter, the notebooks and the
# tests need. PyTorch comes first and from its own index, because PyPI's build for Linux brings CUDA
# libraries of several gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VENV:=.venv}"
python3 -m venv "$VENV"
"$VENV/bin/python" -m pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
"$VENV/bin/python" -m pip install -r requirements-dev.txt
# Prints the handouts, and the tests of pages run in it; the font has Chinese characters.
sudo apt-get update -q
sudo apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core fonts-noto-cjk
"$VENV/bin/python" -m ch07 doctor
