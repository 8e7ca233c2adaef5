#!/usr/bin/env bash
# Builds the wheel, installs it into a new virtual environment, and tries it from a folder outside the repository.
#
#   scripts/try_wheel.sh run
#
# Environment:
#   BASE  virtual environment whose packages the new one sees, so that torch is not downloaded again. The wheel itself is
#         installed in the new one and must be what is imported. Without BASE the wheel's dependencies are installed too.
set -euo pipefail

if [[ ${1:-} != run ]]; then
    echo "usage: [BASE=path/to/venv] scripts/try_wheel.sh run" >&2
    exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repository=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python=${BASE:+$BASE/bin/}python

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$scratch/dist" .
"$python" -m venv "$scratch/venv"
bin=$scratch/venv/bin
if [[ -n ${BASE:-} ]]; then
    "$bin/python" -m pip install --quiet --no-deps "$scratch"/dist/*.whl
    site=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$BASE/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/base.pth"
else
    "$bin/python" -m pip install --quiet -c constraints.txt "$scratch"/dist/*.whl
fi
if "$python" -m zipfile --list "$scratch"/dist/*.whl | grep -E '^(data_prep|tests|benchmarks|docs|yamls)/'; then
    echo "the wheel holds files that do not belong to the library" >&2
    exit 1
fi

cp -r yamls "$scratch/yamls"
cd "$scratch" # outside the repository, whose own files would be imported otherwise
unset PYTHONPATH
"$bin/detour" --version
"$bin/detour" plan yamls/base_clm_detour.yaml
"$bin/python" -c "
import detour
detour.Objective
where = detour.__file__
assert where.startswith('$scratch'), f'imported from {where}, not from the wheel; the repository is $repository'
"
