#!/bin/sh
# Prints the path of valgrind, and on a second line the folder of its tools, if that is not where valgrind expects it.
#
# What is on the PATH is taken. Else the package of Debian or Ubuntu is fetched and unpacked below the folder that the
# argument names; that takes apt-get and dpkg, but neither root nor an installation.
set -eu

if command -v valgrind; then
    exit
fi

mkdir -p "$1"
tools=$(cd "$1" && pwd)
cd "$tools"
if ! [ -e tree/usr/bin/valgrind ]; then
    mkdir -p lists/partial archives/partial
    # First with the lists of the system, then with lists of our own.
    own="-o Dir::State::lists=$tools/lists -o Dir::Cache=$tools"
    for options in '' "$own"; do
        if [ -n "$options" ]; then
            # shellcheck disable=SC2086
            apt-get $options update >&2
        fi
        # shellcheck disable=SC2086
        if apt-get $options download valgrind >&2; then
            break
        fi
    done
    dpkg -x valgrind_*.deb unpacked
    mv unpacked tree
fi
echo "$tools/tree/usr/bin/valgrind"
dirname "$(find "$tools/tree" -name 'callgrind-*-linux' | head -n 1)"
