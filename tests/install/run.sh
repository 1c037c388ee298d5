#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD: installs BUILD under two prefixes with DESTDIR and without, moves one, and builds a user's program
# against it with pkg-config (shared and static) and with CMake.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
export DESTDIR=

# try WHAT COMMAND...
try()
{
    what=$1
    shift
    if "$@" > "$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $what: $*"
        cat "$work/log"
    fi
}

try "install" cmake --install "$build" --prefix "$work/first"
try "install with DESTDIR" env DESTDIR="$work/stage" cmake --install "$build" --prefix /usr
for file in include/folio/folio.h lib/libfolio.so lib/libfolio.a lib/pkgconfig/folio.pc \
            lib/cmake/folio/folioConfig.cmake bin/folio share/man/man1/folio.1; do
    try "has $file" test -e "$work/first/$file"
    try "DESTDIR has $file" test -e "$work/stage/usr/$file"
done
mv "$work/first" "$work/moved"
prefix=$work/moved
try "names no build folder" sh -c "! grep -rlF '$build' '$prefix/lib/pkgconfig' '$prefix/lib/cmake'"

export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
flags=$(pkg-config --cflags --libs folio)
try "compiles with pkg-config" ${CC:-gcc} -std=c11 -Wall -Werror "$here/hello.c" -o "$work/hello" $flags
try "runs" env LD_LIBRARY_PATH="$prefix/lib" "$work/hello"
static=$(pkg-config --cflags --libs --static folio | sed "s:-lfolio:$prefix/lib/libfolio.a:")
try "compiles statically" ${CC:-gcc} -std=c11 "$here/hello.c" -o "$work/hello_static" $static
try "runs statically" "$work/hello_static"
try "configures with CMake" cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix"
try "builds with CMake" cmake --build "$work/build"
try "runs, built with CMake" "$work/build/hello_folio"
try "runs, built with CMake, static" "$work/build/hello_static"
try "the command runs from where it was moved" "$prefix/bin/folio" version

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
