#!/bin/bash
# requirements.txt installs everything. This only shows, in the log of the installation, that it works.
set -e
python -c "import kanserve; print('kanserve', kanserve.__version__)"
