/*
 * Loaded into the worker before the C library (LD_PRELOAD), by flushes.rs: it does what fsync and fdatasync do, and after each that
 * succeeded appends one line to the file that the variable FLUSHES names: the path of what was flushed. So the lines are real system
 * calls of that process, and one is there before the caller goes on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int record = -1;

__attribute__((constructor)) static void open_record(void)
{
    const char *path = getenv("FLUSHES");
    if (path)
        record = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (record < 0)
        abort();
}

static void note(int file)
{
    char link[64], line[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, line, sizeof line - 1);
    if (length < 0)
        length = 0;
    line[length] = '\n';
    if (write(record, line, length + 1) != length + 1)
        abort();
}

int fsync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(file);
    if (result == 0)
        note(file);
    return result;
}

int fdatasync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(file);
    if (result == 0)
        note(file);
    return result;
}
