#!/bin/sh
# Installs what the tests need, inside its own folders: the SDK apps (node_modules for TypeScript, .venv for Python), and
# schemathesis, which holds the OpenAPI documents against the server (tests/openapi/.venv).
# Idempotent: what has an unchanged lock file since the last run is skipped.
# Needs node (20 or newer) with npm, and python3 (3.11 or newer) with venv. Reaches npm and PyPI through their own clients.
# Usage: install.sh [what ...]   (default: ts4 ts3 python openapi)
set -eu

apps_dir=$(cd "$(dirname "$0")/../apps" && pwd)

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null 2>&1 || fail "$1 is not installed (Debian: apt-get install $2)"
}

# current <lock file> <stamp>: whether the stamp was written for exactly this lock file.
current() {
    [ -f "$2" ] && cmp -s "$1" "$2"
}

install_node() {
    need node nodejs
    need npm npm
    stamp="$1/node_modules/.installed-lock"
    current "$1/package-lock.json" "$stamp" && return 0
    # Lock files carry no registry addresses and no app needs install scripts.
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$1/package-lock.json" "$stamp"
}

install_python() {
    need python3 "python3 python3-venv"
    stamp="$1/.venv/.installed-lock"
    current "$1/requirements.txt" "$stamp" && return 0
    rm -rf "$1/.venv"
    python3 -m venv "$1/.venv" || fail "python3 cannot make a virtual environment (Debian: apt-get install python3-venv)"
    "$1/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$1/requirements.txt"
    cp "$1/requirements.txt" "$stamp"
}

[ $# -gt 0 ] || set -- ts4 ts3 python openapi
for app in "$@"; do
    case "$app" in
        ts4 | ts3) install_node "$apps_dir/$app" ;;
        python) install_python "$apps_dir/$app" ;;
        openapi) install_python "$apps_dir/../openapi" ;;
        *) fail "unknown app '$app' (known: ts4 ts3 python openapi)" ;;
    esac
    echo "$app: ready"
done
