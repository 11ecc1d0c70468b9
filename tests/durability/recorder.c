/*
 * Records what a process does to the files below one directory: each call with its bytes, when it began and when it had ended. It is
 * loaded into the broker by LD_PRELOAD, so the broker has no hook and its calls are the real ones. tests/durability/disk.rs reads the
 * record, and builds from it what a loss of power could have left.
 *
 * RECORDED names the directory, RECORD the file that is written. Calls that io_uring would make are not seen; the log makes none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPENED = 1, WRITTEN, SYNCED, TRUNCATED, RENAMED, REMOVED, DIRECTORY };
enum { CREATED = 1, EMPTIED = 2 };
enum { DESCRIPTORS_MAX = 65536 };

struct head {
    uint64_t begun_ns, ended_ns, offset;
    uint32_t kind, path_bytes, data_bytes, padding;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Read by each call from before it is made until it is noted; written, for good, by the end of the process. */
static pthread_rwlock_t ending = PTHREAD_RWLOCK_INITIALIZER;
static const char *recorded;
static size_t recorded_bytes;
static int record = -1;
/* The path of each descriptor that is open on a recorded file or directory. */
static char *paths[DESCRIPTORS_MAX];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    const char *to = getenv("RECORD");
    recorded = getenv("RECORDED");
    if (to && recorded) {
        recorded_bytes = strlen(recorded);
        record = (int)syscall(SYS_openat, AT_FDCWD, to, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    }
}

/* What other threads have done is noted before the process ends, and what is not yet done stays undone. */
__attribute__((destructor)) static void end(void) { pthread_rwlock_wrlock(&ending); }

static void leave(int *unused) {
    (void)unused;
    int before = errno;
    pthread_rwlock_unlock(&ending);
    errno = before;
}

/* The rest of the block is one call. */
#define ENTER \
    pthread_rwlock_rdlock(&ending); \
    int entered __attribute__((cleanup(leave))) = 0; \
    (void)entered;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int is_recorded(const char *path) {
    return record >= 0 && path && !strncmp(path, recorded, recorded_bytes) &&
           (path[recorded_bytes] == '/' || !path[recorded_bytes]);
}

static void note(enum kind kind, uint64_t begun_ns, const char *path, uint64_t offset, const void *data, size_t bytes) {
    struct head head = {begun_ns, now(), offset, kind, (uint32_t)strlen(path), (uint32_t)bytes, 0};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path_bytes}, {(void *)data, bytes}};
    int before = errno;
    pthread_mutex_lock(&lock);
    if (syscall(SYS_writev, record, parts, 3) != (long)(sizeof head + head.path_bytes + bytes)) abort();
    pthread_mutex_unlock(&lock);
    errno = before;
}

static const char *path_of(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX ? paths[descriptor] : NULL;
}

/* A name relative to a directory's descriptor, as a whole path. */
static const char *whole(int directory, const char *name, char *into) {
    const char *parent = name[0] == '/' ? NULL : path_of(directory);
    if (!parent) return name;
    snprintf(into, PATH_MAX, "%s/%s", parent, name);
    return into;
}

static int opened(int directory, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = whole(directory, name, buffer);
    if (!is_recorded(path)) return (int)syscall(SYS_openat, directory, name, flags, mode);
    ENTER
    uint64_t begun = now();
    struct stat found;
    int is_new = (flags & O_CREAT) && stat(path, &found) != 0;
    int descriptor = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (descriptor < 0) return descriptor;
    if (descriptor >= DESCRIPTORS_MAX) abort();
    free(paths[descriptor]);
    paths[descriptor] = strdup(path);
    int changes = (is_new ? CREATED : 0) | (!is_new && (flags & O_TRUNC) ? EMPTIED : 0);
    if (changes) note(OPENED, begun, path, (uint64_t)changes, NULL, 0);
    return descriptor;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int directory, const char *name, int flags, ...) { MODE(flags) return opened(directory, name, flags, mode); }
int openat64(int directory, const char *name, int flags, ...) { MODE(flags) return opened(directory, name, flags, mode); }

int close(int descriptor) {
    if (path_of(descriptor)) {
        free(paths[descriptor]);
        paths[descriptor] = NULL;
    }
    return (int)syscall(SYS_close, descriptor);
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off64_t offset) {
    ENTER
    uint64_t begun = now();
    ssize_t done = REAL(pwrite64)(descriptor, data, bytes, offset);
    const char *path = path_of(descriptor);
    if (path && done > 0) note(WRITTEN, begun, path, (uint64_t)offset, data, (size_t)done);
    return done;
}

ssize_t write(int descriptor, const void *data, size_t bytes) {
    const char *path = path_of(descriptor);
    if (!path) return syscall(SYS_write, descriptor, data, bytes);
    ENTER
    uint64_t begun = now();
    ssize_t done = syscall(SYS_write, descriptor, data, bytes);
    if (done > 0) {
        off_t at = lseek(descriptor, 0, SEEK_CUR);
        note(WRITTEN, begun, path, (uint64_t)(at - done), data, (size_t)done);
    }
    return done;
}

#define SYNC(name) \
    int name(int descriptor) { \
        ENTER \
        uint64_t begun = now(); \
        int done = REAL(name)(descriptor); \
        const char *path = path_of(descriptor); \
        if (path && done == 0) note(SYNCED, begun, path, 0, NULL, 0); \
        return done; \
    }
SYNC(fdatasync)
SYNC(fsync)

int ftruncate64(int descriptor, off64_t bytes) {
    ENTER
    uint64_t begun = now();
    int done = REAL(ftruncate64)(descriptor, bytes);
    const char *path = path_of(descriptor);
    if (path && done == 0) note(TRUNCATED, begun, path, (uint64_t)bytes, NULL, 0);
    return done;
}

int rename(const char *from, const char *to) {
    ENTER
    uint64_t begun = now();
    int done = REAL(rename)(from, to);
    if (is_recorded(from) && done == 0) note(RENAMED, begun, from, 0, to, strlen(to));
    return done;
}

int unlinkat(int directory, const char *name, int flags) {
    char buffer[PATH_MAX];
    ENTER
    uint64_t begun = now();
    int done = (int)syscall(SYS_unlinkat, directory, name, flags);
    const char *path = whole(directory, name, buffer);
    if (is_recorded(path) && done == 0) note(REMOVED, begun, path, 0, NULL, 0);
    return done;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdir(const char *name, mode_t mode) {
    ENTER
    uint64_t begun = now();
    int done = REAL(mkdir)(name, mode);
    if (is_recorded(name) && done == 0) note(DIRECTORY, begun, name, 0, NULL, 0);
    return done;
}
