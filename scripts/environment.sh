# Sourced by the other scripts: creates .venv and installs the project with its tested versions, once.
VENV="${METARL_VENV:-.venv}"

find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "metarl needs Python 3.11, 3.12 or 3.13, and none was found. On Debian or Ubuntu: apt-get install -y python3 python3-venv" >&2
    return 1
}

# ensure_environment [EXTRA]: reinstalls when the package lists have changed.
ensure_environment() {
    if [ "$(uname -s)" != Linux ]; then
        echo "metarl runs on Linux; this is $(uname -s). A Linux container or WSL will do." >&2
        exit 2
    fi
    local extra="${1:-}" python stamp
    stamp="$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16) ${extra:-plain}"
    if grep -qxF "$stamp" "$VENV/.metarl" 2>/dev/null; then
        return
    fi
    if ! [ -x "$VENV/bin/python" ]; then
        python="$(find_python)" || exit 2
        echo "Making a virtual environment in $VENV with $("$python" --version)"
        if ! "$python" -m venv "$VENV" 2>/dev/null; then
            rm -rf "$VENV"
            echo "Python's venv module does not work here. On Debian or Ubuntu: apt-get install -y $(basename "$python")-venv" >&2
            exit 2
        fi
    fi
    echo "Installing metarl and its tested versions into $VENV (a few minutes the first time)"
    # torch first: its exact version is what pip must not replace with another build
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
    echo "$stamp" >>"$VENV/.metarl"
}
