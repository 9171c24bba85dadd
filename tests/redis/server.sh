#!/bin/sh
# Prints the path of a server of Redis or Valkey, and on a second line the folder of the libraries that it needs, if any.
#
# What is on the PATH is taken. Else the packages of Debian or Ubuntu are fetched and unpacked below the folder that the
# argument names; that takes apt-get and dpkg, but neither root nor an installation.
set -eu

for name in redis-server valkey-server; do
    if command -v "$name"; then
        exit
    fi
done

mkdir -p "$1"
tools=$(cd "$1" && pwd)
exec 9>"$tools/lock"
flock 9

cd "$tools"
if ! [ -e tree/usr/bin/redis-server ]; then
    mkdir -p lists/partial archives/partial
    # First with the lists of the system, then with lists of our own.
    own="-o Dir::State::lists=$tools/lists -o Dir::Cache=$tools"
    for options in '' "$own"; do
        if [ -n "$options" ]; then
            # shellcheck disable=SC2086
            apt-get $options update >&2
        fi
        # Libraries have other names in other releases, and are mostly there.
        for package in redis-tools redis-server libjemalloc2 liblzf1 libatomic1 liblua5.1-0 lua-cjson lua-bitop; do
            # shellcheck disable=SC2086
            ls "$package"_*.deb >/dev/null 2>&1 || apt-get $options download "$package" >&2 || true
        done
        if ls redis-server_*.deb redis-tools_*.deb >/dev/null 2>&1; then
            break
        fi
    done
    for file in *.deb; do
        dpkg -x "$file" unpacked
    done
    mv unpacked tree
fi
libraries=$(dirname "$(find "$tools/tree" -name 'libjemalloc.so*' | head -n 1)")
LD_LIBRARY_PATH=$libraries tree/usr/bin/redis-server --version >&2
echo "$tools/tree/usr/bin/redis-server"
echo "$libraries"
