#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test_tools.sh: the checks can fail: each of them goes red on a small tree with one fault, and stays green without it.
set -u
cd "$(dirname "$0")/.." || exit 1
tools=$PWD/tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# expect green|red WHAT COMMAND...
expect()
{
    colour=$1 what=$2
    shift 2
    if "$@" > "$work.log" 2>&1; then got=green; else got=red; fi
    if [ "$got" = "$colour" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $what: $got, expected $colour"
        cat "$work.log"
    fi
    rm -f "$work.log"
}

# source FILE TEXT: a C file with the head that style asks for
source_file()
{
    mkdir -p "$work/$(dirname "$1")"
    head='/* SPDX-License-Identifier: Apache-2.0\n * %s: a file for a test. */\n'
    printf "$head%b" "$(basename "$1")" "$2" > "$work/$1"
}

layers()
{
    expect "$1" "layers: $2" "$tools/check-layers" "$work"
    rm -rf "${work:?}"/*
}
source_file src/kernel/a.c '#include "base/x.h"\n#include "folio/base.h"\n'; layers green "downwards"
source_file src/base/a.c '#include "kernel/x.h"\n'; layers red "base includes kernel"
source_file src/cache/a.c '#include "pages/x.h"\n'; layers red "cache includes pages"
source_file src/cache/a.c '#include "folio/attend.h"\n'; layers red "cache includes a header about bytes"
source_file src/plan/a.c '#include "run/x.h"\n'; layers red "plan includes run"
source_file src/plan/a.c '#include "cache/x.h"\n'; layers red "plan includes cache"
source_file cli/a.c '#include "base/x.h"\n'; layers red "the command includes internals"
source_file cli/a.c '#include <base/x.h>\n'; layers red "the command includes internals in angles"
source_file cli/a.c '#include <stdio.h>\n#include <folio/folio.h>\n'; layers green "the command includes the public API"
source_file include/folio/a.h '#include "base/x.h"\n'; layers red "a public header includes internals"

cp .clang-format "$work.format"
style()
{
    cp "$work.format" "$work/.clang-format"
    expect "$1" "style: $2" "$tools/check-style" "$work"
    rm -rf "${work:?}"/*
}
source_file src/a.c 'int a;\n'; style green "a clean file"
source_file src/a.c 'int\ta;\n'; style red "a tab"
source_file src/a.c 'int a; \n'; style red "trailing space"
source_file src/a.c 'int a;\n\n'; style red "an empty line at the end"
source_file src/a.c 'int  a;\n'; style red "not formatted"
source_file src/a.c "/* $(printf '%0120d' 0) */\n"; style red "a long line"
source_file src/a.c "$(yes 'int a;' | head -n 400 | sed 's/$/\\n/' | tr -d '\n')"; style red "a long file"
body=$(yes '    g();' | head -n 60 | sed 's/$/\\n/' | tr -d '\n')
source_file src/a.c "void f(void)\n{\n$body}\n"; style red "a long function"
source_file src/a.c '/* see /ho''me/me/x */\n'; style red "a machine's path"
printf 'int a;\n' > "$work/a.c"; style red "no SPDX line"
rm -f "$work.format"

count() { printf '%b' "$2" | python3 -c "
import sys; sys.path.insert(0, '$tools'); import tally
print(tally.line(tally.count(sys.stdin.read(), $1)))"; }
tally() { expect green "tally: $1" test "$(count "$2" "$3")" = "$4"; }
tally "a closing line" 0 '3 passed, 0 failed, 1 skipped\n' '3 passed, 0 failed, 1 skipped'
tally "nothing ran" 0 'hello\n' '0 passed, 1 failed, 0 skipped'
tally "a failing exit" 2 '3 passed, 0 failed, 0 skipped\n' '3 passed, 1 failed, 0 skipped'
tally "pytest" 1 '==== 2 failed, 30 passed, 4 skipped in 1.20s ====\n' '30 passed, 2 failed, 4 skipped'
tally "two runs of pytest" 0 '3 passed in 0.10s\n1 passed, 1 skipped in 2.00s\n' '4 passed, 0 failed, 1 skipped'
tally "cmocka under ctest" 8 '1: [       OK ] a\n1: [  FAILED  ] b\n1/2 Test  #1: x ....***Failed    0.01 sec
2/2 Test  #2: y ....   Passed    0.01 sec\n' '2 passed, 1 failed, 0 skipped'
tally "cmocka's own summary" 8 '1: [       OK ] a\n1: [  ERROR   ] --- 0 != 1\n1: [  FAILED  ] b\n1: [  SKIPPED ] c
1: [  FAILED  ] tests: 1 test(s), listed below:\n1: [  FAILED  ] b\n1: [  SKIPPED ] 1 test(s), listed below:
1: [  SKIPPED ] c\n1/1 Test  #1: x ....***Failed    0.01 sec\n' '1 passed, 1 failed, 1 skipped'
tally "a crash" 8 '1: [       OK ] a\n1/1 Test  #1: x ....***Exception: SegFault    0.01 sec\n' \
    '1 passed, 1 failed, 0 skipped'

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
