# Sourced by the other scripts: `setup run` or `setup test` leaves a ready virtual environment in $VENV.
# shellcheck shell=bash

ROOT="$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The first Python that is new enough. A name on the PATH may be a shim with nothing behind it: try it.
find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3.14 python3 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# What an install depends on. The folder is part of it: a moved checkout is installed at its old place.
fingerprint() {
    { cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt"; echo "$ROOT"; } | "$VENV/bin/python" -c \
        'import hashlib, sys; print(sys.version.split()[0], hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

is_current() { [[ -f "$1" && "$(cat "$1")" == "$2" ]]; }

# setup run|test|bench: the others have what a run needs and more, so they serve it too.
setup() {
    local python wanted other extras="" quiet="" stamp="$VENV/.installed-$1"
    if ! "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python="$(find_python)" ||
            die "Python 3.11 or newer was not found: install it, or name it with PYTHON=/path/to/python3.11"
        echo "Making $VENV with $python" >&2
        "$python" -m venv --clear "$VENV" ||
            die "$python cannot make a virtual environment (on Debian and Ubuntu: apt install python3.11-venv)"
    fi
    wanted="$(fingerprint)" || die "$VENV is broken: delete it and try again"
    for other in "$VENV"/.installed-*; do
        if [[ "$1" == run || "$other" == "$stamp" ]] && is_current "$other" "$wanted"; then return; fi
    done
    case "$1" in
        test) extras="[test,dev,docs]" ;;
        bench) extras="[bench]" ;;
    esac
    echo "Installing weakseg$extras into $VENV (once; PyTorch is a large download)" >&2
    if [[ ! -t 2 ]]; then quiet=--quiet; fi # somebody who watches wants to see it move
    # Stamps of other versions go first, and the new one comes last, so that an install that was cut off is done
    # again. Those of the same versions may stay: this only adds packages to theirs.
    for other in "$VENV"/.installed-*; do
        is_current "$other" "$wanted" || rm -f "$other"
    done
    # From the root and as a relative path: pip reads the brackets of a path's extras, not a path's own.
    (cd "$ROOT" && "$VENV/bin/python" -m pip install $quiet -c constraints.txt -e ".$extras") >&2 ||
        die "the packages could not be installed (see above): mend that and run this again"
    printf '%s\n' "$wanted" >"$stamp.part" && mv "$stamp.part" "$stamp"
}

# setup_beside NAME LIST: in .venv-NAME what needs other versions than .venv has. Without it its tests are skipped.
setup_beside() {
    local folder="$ROOT/.venv-$1" listed="$ROOT/$2"
    if cmp -s "$listed" "$folder/.installed"; then return; fi
    echo "Installing $2 into $folder (once)" >&2
    if "$VENV/bin/python" -m venv --clear "$folder" && "$folder/bin/python" -m pip install --quiet -r "$listed" >&2; then
        cp "$listed" "$folder/.installed"
    else
        rm -rf "$folder"
        echo "They could not be installed: the tests that need them are skipped" >&2
    fi
}
