/* Counts the calls of a process that change files below one directory, and makes the n-th of them
 * go wrong. Loaded before the C library (LD_PRELOAD) into the real binary, whose every write, sync
 * and rename passes through here, whichever thread it comes from.
 *
 *   POSTRIDER_FAULT        <what>:<kind>:<first>-<last>
 *                          what  kill, eio, enospc, none
 *                          kind  any, write, sync, name, size
 *   POSTRIDER_FAULT_DIR    the directory
 *   POSTRIDER_FAULT_NAMES  only files whose path ends so; may be empty
 *   POSTRIDER_FAULT_LOG    where each call that is hit is written down: number, call, path
 *
 * A sync of a write-ahead log that goes wrong also cuts off what was written since the last one:
 * that is what a system may do that could not bring it to the disk, and it says so only once.
 *
 * Absent here: anything that is not Linux, and any call that the engine does not make.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define FILES_MAX 4096
#define CLEAN (-1L)

enum what { NONE, KILL, IO_ERROR, NO_SPACE };
enum kind { WRITE = 1, SYNC = 2, NAME = 4, SIZE = 8 };

static enum what what;
static int kinds;
static long first, last;
static char directory[PATH_BYTES_MAX];
static const char *names = "";
static int out = -1;
static atomic_long calls;
/* Where the first byte lies that was written since the last sync, for each open file. */
static atomic_long dirty[FILES_MAX];

__attribute__((constructor)) static void begin(void) {
    char what_is[16] = "", kind_is[16] = "";
    const char *fault = getenv("POSTRIDER_FAULT");
    const char *below = getenv("POSTRIDER_FAULT_DIR");
    const char *log = getenv("POSTRIDER_FAULT_LOG");
    for (int file = 0; file < FILES_MAX; file++)
        dirty[file] = CLEAN;
    if (!fault || !below || !log)
        return;
    if (sscanf(fault, "%15[a-z]:%15[a-z]:%ld-%ld", what_is, kind_is, &first, &last) != 4)
        abort();
    what = !strcmp(what_is, "kill") ? KILL
         : !strcmp(what_is, "eio") ? IO_ERROR
         : !strcmp(what_is, "enospc") ? NO_SPACE : NONE;
    kinds = !strcmp(kind_is, "write") ? WRITE
          : !strcmp(kind_is, "sync") ? SYNC
          : !strcmp(kind_is, "name") ? NAME
          : !strcmp(kind_is, "size") ? SIZE
          : what == NO_SPACE ? WRITE | SIZE : WRITE | SYNC | NAME | SIZE;
    snprintf(directory, sizeof directory, "%s", below);
    if (getenv("POSTRIDER_FAULT_NAMES"))
        names = getenv("POSTRIDER_FAULT_NAMES");
    out = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Counts a call; returns 0, or the error that it has to end with. Does not return from a kill. */
static int meet(enum kind kind, const char *call, const char *path) {
    char line[PATH_BYTES_MAX + 64];
    size_t length = strlen(directory);
    if (!length || strncmp(path, directory, length) || (path[length] && path[length] != '/'))
        return 0;
    size_t whole = strlen(path), end = strlen(names);
    if (!(kinds & kind) || whole < end || strcmp(path + whole - end, names))
        return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (number < first || number > last)
        return 0;
    int bytes = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path + length);
    syscall(SYS_write, out, line, bytes);
    if (what == KILL) {
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;)
            pause();
    }
    return what == IO_ERROR ? EIO : what == NO_SPACE ? ENOSPC : 0;
}

/* The same for a call on an open file. */
static int meet_file(enum kind kind, const char *call, int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlink, link, path, PATH_BYTES_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return meet(kind, call, path);
}

static long refuse(int error) {
    errno = error;
    return -1;
}

static void soil(int file, long at) {
    if (file < 0 || file >= FILES_MAX)
        return;
    long before = atomic_load(&dirty[file]);
    if (before == CLEAN || at < before)
        atomic_store(&dirty[file], at);
}

ssize_t write(int file, const void *bytes, size_t count) {
    char path[PATH_BYTES_MAX];
    int error = meet_file(WRITE, "write", file, path);
    return error ? refuse(error) : syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    char path[PATH_BYTES_MAX];
    int error = meet_file(WRITE, "pwrite64", file, path);
    if (error)
        return refuse(error);
    soil(file, at);
    return syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    return pwrite64(file, bytes, count, at);
}

static int sync_file(const char *call, long number, int file) {
    char path[PATH_BYTES_MAX];
    int error = meet_file(SYNC, call, file, path);
    long from = file >= 0 && file < FILES_MAX ? atomic_exchange(&dirty[file], CLEAN) : CLEAN;
    if (!error)
        return (int)syscall(number, file);
    size_t length = strlen(path);
    if (from != CLEAN && length > 4 && !strcmp(path + length - 4, "-wal"))
        syscall(SYS_ftruncate, file, from);
    return (int)refuse(error);
}

int fsync(int file) { return sync_file("fsync", SYS_fsync, file); }

int fdatasync(int file) { return sync_file("fdatasync", SYS_fdatasync, file); }

int close(int file) {
    if (file >= 0 && file < FILES_MAX)
        atomic_store(&dirty[file], CLEAN);
    return (int)syscall(SYS_close, file);
}

int rename(const char *from, const char *to) {
    int error = meet(NAME, "rename", to);
    return (int)(error ? refuse(error) : syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

int unlink(const char *path) {
    int error = meet(NAME, "unlink", path);
    return (int)(error ? refuse(error) : syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int ftruncate64(int file, off64_t length) {
    char path[PATH_BYTES_MAX];
    int error = meet_file(SIZE, "ftruncate", file, path);
    return (int)(error ? refuse(error) : syscall(SYS_ftruncate, file, length));
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

int posix_fallocate64(int file, off64_t at, off64_t length) {
    char path[PATH_BYTES_MAX];
    int error = meet_file(SIZE, "fallocate", file, path);
    if (error)
        return error;
    return syscall(SYS_fallocate, file, 0, at, length) ? errno : 0;
}

int posix_fallocate(int file, off_t at, off_t length) {
    return posix_fallocate64(file, at, length);
}
