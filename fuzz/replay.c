/* SPDX-License-Identifier: Apache-2.0
 * replay.c: feeds files to a fuzzer's entry point, so that any compiler can run the corpus.
 * Arguments: files or folders. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int n_inputs;

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (!file || fstat(fileno(file), &info) != 0)
        return perror(path), 1;
    const size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly this long: a sanitizer sees the first byte past it */
    const int ok = data && fread(data, 1, size, file) == size;
    fclose(file);
    if (ok) {
        fprintf(stderr, "%s\n", path); /* the last line before a crash */
        LLVMFuzzerTestOneInput(data, size);
        n_inputs++;
    }
    free(data);
    return !ok;
}

static int replay_folder(const char *folder)
{
    int failed = 0;
    struct dirent **entries;
    const int n = scandir(folder, &entries, NULL, alphasort);
    if (n < 0)
        return perror(folder), 1;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            failed |= replay_file(path);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        struct stat info;
        const int is_folder = stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode);
        failed |= is_folder ? replay_folder(argv[i]) : replay_file(argv[i]);
    }
    printf("%d inputs replayed\n", n_inputs);
    return failed || n_inputs == 0; /* an empty corpus is a mistake, not a success */
}
