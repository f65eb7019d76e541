/* What stands below the program, made to fail on demand: loaded with LD_PRELOAD, told what to do by files in $BELOW.
 *
 * Faults of clocks, disks and name servers come from the system, so this is where they are put in: the program under
 * test is the real one. `clock`, `write`, `sync`, `lookup`: a number; `names`, `address`, `truncate`: being there is enough; `syncs` is what
 * it writes itself. See below.rs for what each means.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <dlfcn.h>

/* The number in a file of $BELOW; 0 if there is no such file. */
static long told(const char *name) {
    const char *directory = getenv("BELOW");
    char path[PATH_MAX], text[32] = {0};
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return atol(text);
}

static void path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
}

static int is_csv(int fd) {
    char path[PATH_MAX];
    path_of(fd, path, sizeof path);
    return strstr(path, ".csv") != NULL;
}

int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    if (id == CLOCK_REALTIME && result == 0) time->tv_sec += told("clock");
    return result;
}

/* Names that end with `.test` are this machine's. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *end = node ? strstr(node, ".test") : NULL;
    if (!end || end[5]) return real(node, service, hints, result);
    if (told("names")) return EAI_AGAIN;
    sleep(told("lookup"));
    int found = real("127.0.0.1", service, hints, result);
    struct addrinfo *before;
    if (found == 0 && told("address") && real("127.0.0.2", service, hints, &before) == 0) {
        before->ai_next = *result;
        *result = before;
    }
    return found;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static int calls;
    long error = told("write");
    if (error && is_csv(fd)) {
        /* A part of it first, as a disk does that fills up: the last record is torn, however many there are. */
        if (calls++ == 0 && count > 5) return syscall(SYS_write, fd, bytes, count - 5);
        errno = (int)error;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, count);
}

int ftruncate64(int fd, off64_t length) {
    if (told("truncate") && is_csv(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_ftruncate, fd, length);
}

static int synced(int fd, long number, const char *name) {
    char path[PATH_MAX], line[PATH_MAX + 32], log[PATH_MAX];
    long slow = told("slow");
    path_of(fd, path, sizeof path);
    snprintf(log, sizeof log, "%s/syncs", getenv("BELOW"));
    int length = snprintf(line, sizeof line, "%s %s\n", name, path);
    int out = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out >= 0) {
        syscall(SYS_write, out, line, length);
        syscall(SYS_close, out);
    }
    if (slow && is_csv(fd)) usleep(slow * 1000);
    if (told("sync") && is_csv(fd)) {
        errno = (int)told("sync");
        return -1;
    }
    return syscall(number, fd);
}

int fdatasync(int fd) { return synced(fd, SYS_fdatasync, "fdatasync"); }
int fsync(int fd) { return synced(fd, SYS_fsync, "fsync"); }
