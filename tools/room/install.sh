#!/bin/sh
# Copies the project to FOLDER and installs it there, without a network:
#   sh install.sh [FOLDER]
set -eu
room=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-"$HOME/instruction-fine-tuning"}
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")'; then
  echo "error: this room needs Python @PYTHON@: PYTHON=/path/to/python@PYTHON@ sh install.sh" >&2
  exit 1
fi
if [ -e "$folder" ]; then
  echo "error: $folder is there already: name another folder, sh install.sh FOLDER" >&2
  exit 1
fi
"$python" "$room/check_room.py"
mkdir -p "$folder"
cp -R "$room/project/." "$folder"
cd "$folder"
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --find-links "$room/wheels" @PACKAGES@
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --find-links "$room/wheels" @SMOLLM2@
.venv/bin/python -m ch07 doctor
