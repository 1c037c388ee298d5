#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh SOURCE GROUP FOLIO...: one group of checks of the command. Each line of a group is one call and what must come
# of it; a failing one prints the call, what it printed and what was wanted.
set -u
source=$1 group=$2
shift 2
folio=$*
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failures=0 checks=0

# Runs folio with the arguments; leaves $code, $dir/out and $dir/err.
call()
{
    what="folio $*"
    $folio "$@" > "$dir/out" 2> "$dir/err" < "${input:-/dev/null}"
    code=$?
}

wrong()
{
    failures=$((failures + 1))
    echo "FAIL: $what"
    echo "  wanted: $*"
    echo "  got exit code $code and:"
    tail -n 20 "$dir/out" "$dir/err" | sed 's/^/  | /'
}

want_code() { checks=$((checks + 1)); [ "$code" = "$1" ] || wrong "exit code $1"; }
want_out() { checks=$((checks + 1)); grep -q -e "$1" "$dir/out" || wrong "output with: $1"; }
want_no_out() { checks=$((checks + 1)); ! grep -q -e "$1" "$dir/out" || wrong "no output with: $1"; }
want_last() { checks=$((checks + 1)); tail -n 1 "$dir/out" | grep -q -e "$1" || wrong "a last line with: $1"; }
want_err() { checks=$((checks + 1)); grep -q -e "$1" "$dir/err" || wrong "an error with: $1"; }

# Wrong usage: exit code 2, nothing on standard output, one line on standard error that has the text.
refuses()
{
    text=$1
    shift
    call "$@"
    want_code 2
    want_err "$text"
    checks=$((checks + 1))
    [ "$(wc -l < "$dir/err")" = 1 ] && [ ! -s "$dir/out" ] || wrong "one line of error and no output"
}

# A number of the last JSON line.
number() { tail -n 1 "$dir/out" | sed -n "s/.*\"$1\":\([-+.eE0-9]*\).*/\1/p"; }

# Two requests that share 512 tokens of prompt, and a third of its own.
mooncake()
{
    echo '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}'
    echo '{"timestamp": 0, "input_length": 530, "output_length": 40, "hash_ids": [0, 2]}'
    echo '{"timestamp": 10, "input_length": 90, "output_length": 60, "hash_ids": [3]}'
}

# Short prompts, long answers: they fit together at first.
growing()
{
    for id in 0 1 2 3; do
        echo "{\"timestamp\": 0, \"input_length\": 64, \"output_length\": 200, \"hash_ids\": [$id]}"
    done
}

azure()
{
    printf 'TIMESTAMP,ContextTokens,GeneratedTokens\r\n'
    printf '2023-11-16 18:17:03.9799600,48,10\r\n2023-11-16 18:17:03.9819600,31,8\r\n2023-11-16 18:17:05,110,27'
}

# Small, the same every time, and quick on an emulator.
quick="--shape 4/2/16 --layers 2 --scale-lengths 1/4 --as-fast-as-possible --no-probe --threads 2 --chunk 64
       --max-batch 4"

group_usage()
{
    refuses 'got no command, allowed: replay doctor'
    refuses 'got "replya", allowed: replay' replya
    refuses '"--chnk", which is no option; --chunk is' replay --chnk 3 trace
    refuses '"--zzz", which is no option' replay --zzz trace
    refuses '\-\-chunk needs a value' replay trace --chunk
    refuses '\-\-chunk: got "0", allowed: 1 .. 1048576' replay --chunk 0 trace
    refuses '\-\-chunk: got "12x", allowed: 1' replay --chunk 12x trace
    refuses '\-\-chunk: got "-1", allowed: 1' replay --chunk -1 trace
    refuses '\-\-chunk: got "99999999999999999999", allowed' replay --chunk 99999999999999999999 trace
    refuses '\-\-memory: got "2T", allowed: 1024 .. .* bytes, with K, M or G' replay --memory 2T trace
    refuses '\-\-memory: got "9999999999G", allowed' replay --memory 9999999999G trace
    refuses '\-\-dtype: got "f64", allowed: f32|f16|bf16' replay --dtype f64 trace
    refuses '\-\-inject: got "x", allowed: none|swap|stale|offbyone' replay --inject x trace
    refuses '\-\-plot: got "", allowed: a name' replay --plot '' trace
    refuses 'got 0 traces, allowed: one' replay
    refuses 'got 2 traces, allowed: one' replay a b
    refuses 'no-such-file: No such file' replay no-such-file
    mooncake > "$dir/trace"
    refuses '\-\-shape: got "9/2/64", allowed: smollm2-135m, llama-3-8b, or H/Hkv/D\[/Dv\]' \
        replay --shape 9/2/64 "$dir/trace"
    refuses '\-\-scale-lengths: got "2", allowed: N/M' replay --scale-lengths 2 "$dir/trace"
    refuses '\-\-scale-lengths: got "1/0", allowed: N/M' replay --scale-lengths 1/0 "$dir/trace"
    refuses '\-\-pages gives 30 pages, but the longest request has 605 tokens and needs 38 + 1' \
        replay --pages 30 "$dir/trace"
    refuses 'got operand "x", allowed: none' doctor x
    refuses 'got operand "x", allowed: none' version x
    refuses '"x", which is no command' help x
    refuses '\-\-isa: got "mmx", allowed: c|avx2|avx512|avx512_bf16|amx|amx_emulated (a list: commas between)' \
        check --isa mmx
    refuses '\-\-case: got 999999, allowed: 0 ..' check --case 999999
    refuses '\-\-threads: got "1,,2", allowed: 1 .. 1024 (a list' bench --threads 1,,2
    refuses '\-\-rows: got "decode,x", allowed: decode|prefill' bench --rows decode,x
}

group_help()
{
    call --help
    want_code 0
    for command in replay doctor check bench version help; do
        call --help
        want_out "^  $command "
        call $command --help
        want_code 0
        want_out "^folio $command"
        want_out '^Examples:'
        want_out '^  folio '
        want_out 'Exit status'
        cp "$dir/out" "$dir/page"
        call help $command
        checks=$((checks + 1))
        cmp -s "$dir/out" "$dir/page" || wrong "the same page as folio $command --help"
    done
    call help --man
    checks=$((checks + 1))
    cmp -s "$dir/out" "$source/docs/folio.1" ||
        wrong "docs/folio.1 (write it with: build/folio help --man > docs/folio.1)"
}

group_version()
{
    call version
    want_code 0
    want_out '^folio [0-9]*\.[0-9]*\.[0-9]*, commit [^ ]*, .* build, '
    call version --json
    want_last '^{"version":"[0-9.]*","commit":"[^"]*","build_type":"[^"]*","compiler":"[^"]*"}$'
}

group_doctor()
{
    call doctor
    want_code 0
    want_out '^CPU  '
    want_out '^ISA levels  *c'
    want_out '^AMX  *\(used where\|missing: the \(CPU\|kernel\|machine\)\|missing: this build\)'
    want_no_out 'keeps folio from it'
    want_out '^huge pages  *transparent: '
    want_out '^context  *CPU backend, .* kernels, [0-9]* threads'
    want_out '^NCCL'
    call doctor --json
    want_code 0
    want_last '"name":"summary".*"ok":true'
    FOLIO_ISA=avx2 call doctor
    want_code 0
    want_out '^AMX  *\(missing: \|the machine has it, but FOLIO_ISA avx2 keeps\)'
}

group_replay()
{
    mooncake > "$dir/trace"
    call replay $quick "$dir/trace"
    want_code 0
    want_out 'SCALED: every prompt and answer has 1/4 of its recorded length'
    want_out '3 done: 306 prompt tokens read, 27 tokens generated'
    want_out '^OK: every checked row is right'
    call replay $quick --json "$dir/trace"
    want_code 0
    for key in requests prompt_tokens generated_tokens steps peak_pages contiguous_pages saved_fraction preemptions \
            rows_checked worst_error step_ms_p50 step_ms_p90 step_ms_p99 tokens_per_s useful_gb_s probe_gb_s ok; do
        want_last "\"$key\":"
    done
    want_last '"requests":3,"prompt_tokens":306,"generated_tokens":27,'
    want_last '"ok":true'
    want_out '"type":"step"'
    first_error=$(number worst_error)
    call replay $quick --json --threads 1 "$dir/trace"
    checks=$((checks + 1))
    [ "$(number worst_error)" = "$first_error" ] ||
        wrong "the same worst error with one thread as with two: $first_error"
    call replay $quick --json --shape 4/2/24/8 --check-rows 4 "$dir/trace"
    want_last '"ok":true'
    call replay $quick --json --isa ref --check-rows 20 "$dir/trace"
    want_last '"ok":true'
    for dtype in f32 f16; do
        call replay $quick --json --dtype $dtype --layout split --page-size 5 --check-rows 4 "$dir/trace"
        want_code 0
        want_last '"ok":true'
    done
    call replay --shape 2/1/8 --limit 1 --scale-lengths 1/8 --json "$dir/trace" # by the clock, with a probe
    want_code 0
    want_last '"requests":1,.*"probe_gb_s":[0-9]'
}

group_formats()
{
    azure > "$dir/trace.csv"
    call replay $quick --json "$dir/trace.csv"
    want_code 0
    want_last '"requests":3,"prompt_tokens":48,"generated_tokens":12,'
    input=$dir/trace.csv
    call replay $quick --json - --limit 2
    want_code 0
    want_last '"requests":2,"prompt_tokens":20,"generated_tokens":5,'
    mooncake > "$dir/trace"
    input=$dir/trace
    call replay $quick --json -
    want_last '"requests":3,"prompt_tokens":306,'
    input=
    call replay $quick "$source/examples/data/mooncake_conversation_200.jsonl" --limit 3 --scale-lengths 1/64 --json
    want_code 0
    want_last '"requests":3,.*"ok":true'

    mooncake | sed '2s/530/53/' > "$dir/bad"
    refuses 'bad:2:59: hash_ids: got 2, input_length 53 needs 1' replay "$dir/bad"
    { azure; echo; echo '2023-11-16 18:17:06,1'; } > "$dir/bad"
    refuses 'bad:5:22: expected ","' replay "$dir/bad"
    echo x > "$dir/bad"
    refuses 'bad:1:1: a trace starts with' replay "$dir/bad"
    : > "$dir/bad"
    refuses 'bad: the trace is empty' replay "$dir/bad"
    input=$dir/bad
    refuses '\-: the trace is empty' replay -
    input=
}

group_preemption()
{
    growing > "$dir/trace"
    call replay $quick --json --page-size 4 --pages 40 "$dir/trace"
    want_code 0
    want_last '"requests":4,"prompt_tokens":64,"generated_tokens":200,.*"ok":true'
    want_no_out '"preemptions":0'
    want_out '"preempted":[1-9]'
    checks=$((checks + 1))
    [ "$(number computed_tokens)" -gt 260 ] || wrong "recomputed tokens on top of 64 + 200 - 4"
    # A fault in a sequence that loses its pages is put into another one.
    call replay $quick --page-size 4 --pages 40 --inject offbyone "$dir/trace"
    want_code 1
    want_out '^WRONG: request'
}

group_inject()
{
    mooncake > "$dir/trace"
    for fault in swap stale offbyone; do
        call replay $quick --page-size 8 --inject $fault "$dir/trace"
        want_code 1
        want_out '^WRONG: request [0-9]*, position [0-9]*, layer [01], query head [0-3], .* error '
        want_out '^FAILED: '
        call replay $quick --page-size 8 --inject $fault --json "$dir/trace"
        want_code 1
        want_out '"type":"error","request":[0-9]*,"position":[0-9]*'
        want_last '"ok":false'
    done
    call replay $quick --page-size 8 --inject none "$dir/trace"
    want_code 0
    # One sequence has nobody to swap with: a fault that could not be put in is no passed check.
    call replay $quick --limit 1 --inject swap "$dir/trace"
    want_code 1
    want_err 'no step offered the place'
}

group_plot()
{
    mooncake > "$dir/trace"
    call replay $quick --plot "$dir/no-such-folder/plot.svg" "$dir/trace"
    want_code 1
    want_err 'gnuplot failed'
    if ! command -v gnuplot > /dev/null; then
        echo "no gnuplot: only its absence was checked"
        return
    fi
    call replay $quick --plot "$dir/it's a plot.svg" "$dir/trace"
    want_code 0
    checks=$((checks + 1))
    grep -q '</svg>' "$dir/it's a plot.svg" || wrong "an SVG file"
    checks=$((checks + 1))
    grep -q 'contiguous reservation' "$dir/it's a plot.svg" || wrong "an SVG file that names its curves"
    call bench --rows decode,prefill --shape 4/2/16 --kv 64,128 --q 32 --batch 1 --page-size 16 --dtype bf16 \
        --threads 1 --layers 1 --reps 3 --state hot --memory 64M --plot "$dir/bench.svg"
    want_code 0
    # Bars say what tells rows apart, the title what they have in common, once; kv_len differs, so there are lines.
    for words in '>decode, rows 1, kv 64<' '>prefill, rows 32, kv 128<' '4/2/16, .*, page 16, .*batch 1, hot<' \
        '>kv_len<' '>prefill, rows 32<'; do
        checks=$((checks + 1))
        grep -q "$words" "$dir/bench.svg" || wrong "an SVG file with $words"
    done
    call bench --rows overhead --threads 1 --reps 3 --plot "$dir/none.svg"
    want_code 1
    want_err 'no row has a share'
}

group_check()
{
    # Edges, and random problems behind them; the whole list is for people and machines with time.
    for number in 0 3 11 39 60 90 97; do
        call check --case $number --json
        want_code 0
        want_last '"type":"summary","run":[1-9][0-9]*,"wrong":0,"other_bits":0,"ok":true'
    done
    # A level that this machine lacks has no results.
    if ! grep -qw amx_tile /proc/cpuinfo; then
        call check --case 3 --isa amx
        want_code 1
        want_err '\-\-isa amx: [a-zA-Z]'
        call bench --rows overhead --threads 1 --reps 3 --isa amx
        want_code 1
        want_err '\-\-isa amx: left out: [a-zA-Z]'
    fi
    call check --case 3 --isa c
    want_code 0
    want_out '^c  *attend q f16, pages f16  *1  *0 '
    want_out '^c  *append, gather, merge  *[1-9][0-9]*  *0 '
    want_out '^OK: '
}

group_bench()
{
    call bench --rows decode,prefill,append --shape 4/2/16 --kv 64 --q 32 --batch 1 --page-size 16 --dtype f32 \
        --threads 1 --layers 1 --reps 3 --state hot --memory 64M --json
    want_code 0
    want_out '"row":"decode".*"median_us":[0-9].*"gb_s":[0-9].*"probe_gb_s":[0-9].*"share":[0-9]'
    want_out '"row":"prefill".*"gflop_s":[0-9].*"probe_gflop_s":[0-9]'
    want_out '"row":"append"'
    want_last '"type":"summary".*"ok":true'
    call bench --rows decode --shape 4/2/24/8 --kv 64 --batch 3 --mix zipf --window 20 --softcap 5 --sinks --threads 1 \
        --layers 2 --reps 3 --json --page-size 8 --dtype f16
    want_code 0
    want_last '"rows":2,.*"ok":true'
    call bench --rows decode,prefill,append --shape 4/2/16 --kv 64 --q 32 --batch 2 --page-size 16 \
        --dtype i8,e4m3,e5m2 --threads 1 --reps 3 --state hot --json
    want_code 0
    want_out '"row":"append".*"dtype":"e5m2"'
    want_last '"rows":12,.*"ok":true'
    call bench --rows decode --shape 4/2/16 --kv 600 --batch 4 --shared 512 --cascade --page-size 16 --dtype i8 \
        --threads 1 --reps 3 --state hot --json
    want_code 0
    want_last '"rows":1,.*"ok":true'
    call bench --rows decode,prefill --shape 4/2/16 --kv 64,1000000 --q 1,128 --batch 1 --page-size 16 --dtype f32 \
        --threads 1 --layers 1 --reps 3 --memory 64M --json
    want_code 0 # the decode rows of kv 64; prefill of 1 row, of 128 on 64; what does not fit, cold and hot
    want_err 'decode f32, batch 1, rows 1, kv 1000000: left out: K and V of a layer take 245 MB, --memory allows 64 MB'
    want_err 'prefill f32, batch 1, rows 1, kv 64: left out: one row'
    want_err 'prefill f32, batch 1, rows 128, kv 64: left out: more rows than keys'
    want_last '"rows":2,"left_out":6,"ok":true'
    call bench --rows overhead --threads 1 --reps 3
    want_code 0
    want_out '^overhead .*attend, plan reused'
    call bench --rows mods --shape 2/1/16 --dtype bf16 --threads 1 --reps 3 --page-size 16
    want_code 0
    want_out '^mods .*window 1024, 1 on 32768 .* of the built-in'
}

group_$group
if [ "$checks" = 0 ]; then
    echo "no checks in group $group"
    exit 1
fi
echo "$group: $checks checks, $failures failed"
[ "$failures" = 0 ]
