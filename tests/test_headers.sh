#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test_headers.sh CC CXX: every public header compiles alone, twice in a row, as C11 and as C++17, without a warning;
# and before and after the official DLPack header where there is one. CXX may be empty: then C++ is skipped.
set -u
cd "$(dirname "$0")/.."
cc=$1 cxx=${2-}
passed=0 failed=0 skipped=0
official=$(ls /usr/include/dlpack/dlpack.h 2>/dev/null)

# compile WHAT INCLUDE-LINES COMPILER FLAGS...
compile()
{
    what=$1 text=$2
    shift 2
    if printf '%b' "$text" | "$@" -Wall -Wextra -Wpedantic -Wconversion -Werror -Iinclude -fsyntax-only -; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $what: $*"
    fi
}

for file in include/folio/*.h; do
    header=folio/${file##*/}
    text="#include \"$header\"\n#include \"$header\"\n"
    compile "$header" "$text" $cc -std=c11 -x c
    if [ -n "$cxx" ]; then
        compile "$header" "$text" $cxx -std=c++17 -x c++
    else
        skipped=$((skipped + 1))
    fi
done
if [ -n "$official" ]; then
    for text in "#include <dlpack/dlpack.h>\n#include \"folio/folio.h\"\n" \
                "#include \"folio/folio.h\"\n#include <dlpack/dlpack.h>\n"; do
        compile "with the official header" "$text" $cc -std=c11 -x c
        [ -z "$cxx" ] || compile "with the official header" "$text" $cxx -std=c++17 -x c++
    done
else
    skipped=$((skipped + 1))
    echo "skip: no official DLPack header in /usr/include"
fi
[ -n "$cxx" ] || echo "skip: no C++ compiler"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
