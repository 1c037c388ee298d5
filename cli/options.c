/* SPDX-License-Identifier: Apache-2.0
 * options.c: argv into a struct of values, by a command's table. */
#include "options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "help.h"

enum { MAX_OPTIONS = 40, HELP_VALUE = 'h', FIRST_VALUE = 256 };

int usage_error(const struct command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "folio %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "; try folio %s --help\n", command->name);
    va_end(args);
    return EXIT_USAGE;
}

int run_error(const struct command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "folio %s: ", command->name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_WRONG;
}

/* Digits at text -> *value; the first character behind them, or NULL when there is no digit or no room. */
static const char *scan_digits(const char *text, i64 *value)
{
    const char *p = text;
    i64 sum = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        const i64 digit = *p - '0';
        if (sum > (INT64_MAX - digit) / 10)
            return NULL;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return p == text ? NULL : p;
}

bool parse_i64(const char *text, i64 min, i64 max, i64 *out)
{
    i64 value;
    const char *end = scan_digits(text, &value);
    if (!end || *end || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool parse_bytes(const char *text, i64 min, i64 max, i64 *out)
{
    i64 value;
    const char *end = scan_digits(text, &value);
    if (!end)
        return false;
    int shift = 0;
    if (*end) {
        const char *unit = strchr("KMG", *end);
        if (!unit || end[1])
            return false;
        shift = 10 * (int)(unit - "KMG" + 1);
    }
    if (value > INT64_MAX >> shift || value << shift < min || value << shift > max)
        return false;
    *out = value << shift;
    return true;
}

static i32 find_choice(const char *const *choices, const char *text, size_t n)
{
    for (i32 i = 0; choices[i]; i++)
        if (strlen(choices[i]) == n && !memcmp(choices[i], text, n))
            return i;
    return -1;
}

static bool parse_list(const struct option_spec *spec, const char *text, struct number_list *list)
{
    struct number_list got = { .n = 0 };
    for (const char *p = text;;) {
        const size_t n = strcspn(p, ",");
        char word[32];
        if (n == 0 || n >= sizeof(word) || got.n == MAX_NUMBERS)
            return false;
        memcpy(word, p, n);
        word[n] = '\0';
        i64 *value = &got.values[got.n++];
        if (spec->kind == OPTION_NUMBERS) {
            if (!parse_i64(word, spec->min, spec->max, value))
                return false;
        } else if ((*value = find_choice(spec->choices, word, n)) < 0) {
            return false;
        }
        if (!p[n])
            break;
        p += n + 1;
    }
    *list = got;
    return true;
}

static bool store(const struct option_spec *spec, const char *text, void *values)
{
    void *field = (char *)values + spec->offset;
    switch (spec->kind) {
    case OPTION_FLAG:
        *(int *)field = 1;
        return true;
    case OPTION_I64:
        return parse_i64(text, spec->min, spec->max, field);
    case OPTION_BYTES:
        return parse_bytes(text, spec->min, spec->max, field);
    case OPTION_TEXT:
        *(const char **)field = text;
        return text[0] != '\0';
    case OPTION_CHOICE: {
        const i32 choice = find_choice(spec->choices, text, strlen(text));
        *(int *)field = choice;
        return choice >= 0;
    }
    case OPTION_NUMBERS:
    case OPTION_CHOICES:
        return parse_list(spec, text, field);
    }
    return false;
}

/* "1 .. 1024", "f32|bf16": what an option allows, into text [n]. */
static void allowed_text(const struct option_spec *spec, char *text, size_t n)
{
    const char *list = spec->kind == OPTION_NUMBERS || spec->kind == OPTION_CHOICES ? " (a list: commas between)" : "";
    if (spec->kind == OPTION_CHOICE || spec->kind == OPTION_CHOICES) {
        size_t at = 0;
        for (i32 i = 0; spec->choices[i] && at < n; i++)
            at += (size_t)snprintf(text + at, n - at, "%s%s", i ? "|" : "", spec->choices[i]);
        if (at < n)
            snprintf(text + at, n - at, "%s", list);
    } else if (spec->kind == OPTION_BYTES) {
        snprintf(text, n, "%lld .. %lld bytes, with K, M or G", (long long)spec->min, (long long)spec->max);
    } else if (spec->kind == OPTION_TEXT) {
        snprintf(text, n, "a name that is not empty");
    } else {
        snprintf(text, n, "%lld .. %lld%s", (long long)spec->min, (long long)spec->max, list);
    }
}

/* How many leading characters two names share: the nearest option to a mistyped one. */
static size_t shared_prefix(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

static int unknown_option(const struct command *command, const char *word)
{
    const char *name = word[0] == '-' && word[1] == '-' ? word + 2 : word;
    const struct option_spec *best = NULL;
    size_t best_shared = 1; /* one letter in common is no hint */
    for (const struct option_spec *spec = command->options; spec->name; spec++)
        if (shared_prefix(spec->name, name) > best_shared) {
            best = spec;
            best_shared = shared_prefix(spec->name, name);
        }
    if (best)
        return usage_error(command, "got \"%s\", which is no option; --%s is", word, best->name);
    return usage_error(command, "got \"%s\", which is no option", word);
}

static void long_options(const struct command *command, struct option *longs /* [MAX_OPTIONS + 2] */)
{
    i32 n = 0;
    longs[n++] = (struct option){ "help", no_argument, NULL, HELP_VALUE };
    for (const struct option_spec *spec = command->options; spec->name && n <= MAX_OPTIONS; spec++, n++)
        longs[n] = (struct option){ spec->name, spec->kind == OPTION_FLAG ? no_argument : required_argument, NULL,
                                    FIRST_VALUE + n - 1 };
    longs[n] = (struct option){ 0 };
}

int options_parse(const struct command *command, int argc, char **argv, void *values, char ***operands, i32 *n_operands)
{
    struct option longs[MAX_OPTIONS + 2];
    long_options(command, longs);
    opterr = 0;
    optind = 1;
    for (int got; (got = getopt_long(argc, argv, ":h", longs, NULL)) != -1;) {
        if (got == HELP_VALUE) {
            help_print(stdout, command);
            return EXIT_DONE;
        }
        if (got == ':')
            return usage_error(command, "%s needs a value", argv[optind - 1]);
        if (got == '?')
            return unknown_option(command, argv[optind - 1]);
        const struct option_spec *spec = &command->options[got - FIRST_VALUE];
        if (store(spec, optarg, values))
            continue;
        char allowed[200];
        allowed_text(spec, allowed, sizeof(allowed));
        return usage_error(command, "--%s: got \"%s\", allowed: %s", spec->name, optarg, allowed);
    }
    *operands = argv + optind;
    *n_operands = argc - optind;
    return OPTIONS_GO;
}
