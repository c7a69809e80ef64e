/* Makes the Nth call of the system fail: loaded with LD_PRELOAD, armed by fail_calls_arm().

   One kind of fault counts the calls of its functions from the arming on, and
   fails call N (persistent: N and all after it). Processes that are forked later count on
   together. Calls before the arming and calls on descriptors 0 to 2 are never touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum Kind {
  kNone, kOpenError, kReadShort, kReadError, kWriteShort, kWriteError, kWriteInterrupted,
  kWriteFull, kSyncError, kCloseError, kRenameError, kMapError, kAllocError
};

/* What forked processes share: a page of its own. */
static struct { atomic_int calls, fired; } *shared;
static atomic_int kind;
static int nth, persistent, error_number;

#define PUBLIC __attribute__((visibility("default")))

PUBLIC void fail_calls_arm(int which, int n, int lasting, int error) {
  atomic_store(&kind, kNone);
  if (!shared) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  }
  if (which != kNone) {
    atomic_store(&shared->calls, 0);
    atomic_store(&shared->fired, 0);
  }
  nth = n;
  persistent = lasting;
  error_number = error;
  atomic_store(&kind, which);
}

PUBLIC int fail_calls_fired(void) { return atomic_load(&shared->fired); }

static int fails(int which) {
  if (atomic_load_explicit(&kind, memory_order_relaxed) != which) return 0;
  int now = atomic_fetch_add(&shared->calls, 1) + 1;
  if (now == nth || (persistent && now > nth)) {
    atomic_fetch_add(&shared->fired, 1);
    return 1;
  }
  return 0;
}

#define REAL(type, name, ...)                                    \
  static type (*real)(__VA_ARGS__);                              \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int failed(void) {
  errno = error_number;
  return -1;
}

#define OPEN(name)                                                            \
  int name(const char *path, int flags, ...) {                                \
    REAL(int, name, const char *, int, ...);                                  \
    mode_t mode = 0;                                                          \
    if (flags & (O_CREAT | O_TMPFILE)) {                                      \
      va_list rest;                                                           \
      va_start(rest, flags);                                                  \
      mode = va_arg(rest, mode_t);                                            \
      va_end(rest);                                                           \
    }                                                                         \
    return fails(kOpenError) ? failed() : real(path, flags, mode);            \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                          \
  int name(int folder, const char *path, int flags, ...) {                    \
    REAL(int, name, int, const char *, int, ...);                             \
    mode_t mode = 0;                                                          \
    if (flags & (O_CREAT | O_TMPFILE)) {                                      \
      va_list rest;                                                           \
      va_start(rest, flags);                                                  \
      mode = va_arg(rest, mode_t);                                            \
      va_end(rest);                                                           \
    }                                                                         \
    return fails(kOpenError) ? failed() : real(folder, path, flags, mode);    \
  }
OPENAT(openat)
OPENAT(openat64)

/* A short read gives half, and at least one byte, of what was asked for. */
static size_t part(size_t count, int which) { return count > 1 && fails(which) ? count / 2 : count; }

ssize_t read(int fd, void *data, size_t count) {
  REAL(ssize_t, read, int, void *, size_t);
  if (fd > 2 && fails(kReadError)) return failed();
  return real(fd, data, fd > 2 ? part(count, kReadShort) : count);
}

#define PREAD(name, offset_type)                                              \
  ssize_t name(int fd, void *data, size_t count, offset_type offset) {        \
    REAL(ssize_t, name, int, void *, size_t, offset_type);                    \
    if (fails(kReadError)) return failed();                                   \
    return real(fd, data, part(count, kReadShort), offset);                   \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

static int write_fails(void) {
  return fails(kWriteError) || fails(kWriteInterrupted) || fails(kWriteFull);
}

ssize_t write(int fd, const void *data, size_t count) {
  REAL(ssize_t, write, int, const void *, size_t);
  if (fd > 2 && write_fails()) return failed();
  return real(fd, data, fd > 2 ? part(count, kWriteShort) : count);
}

#define PWRITE(name, offset_type)                                             \
  ssize_t name(int fd, const void *data, size_t count, offset_type offset) {  \
    REAL(ssize_t, name, int, const void *, size_t, offset_type);              \
    if (write_fails()) return failed();                                       \
    return real(fd, data, part(count, kWriteShort), offset);                  \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int fsync(int fd) {
  REAL(int, fsync, int);
  return fails(kSyncError) ? failed() : real(fd);
}

int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  return fails(kSyncError) ? failed() : real(fd);
}

/* The descriptor is closed all the same, as Linux does it. */
int close(int fd) {
  REAL(int, close, int);
  if (fd > 2 && fails(kCloseError)) {
    real(fd);
    return failed();
  }
  return real(fd);
}

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  return fails(kRenameError) ? failed() : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, renameat, int, const char *, int, const char *);
  return fails(kRenameError) ? failed() : real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned);
  return fails(kRenameError) ? failed() : real(a, from, b, to, flags);
}

#define MMAP(name, offset_type)                                               \
  void *name(void *at, size_t size, int access, int flags, int fd, offset_type offset) { \
    REAL(void *, name, void *, size_t, int, int, int, offset_type);           \
    if (fails(kMapError)) {                                                   \
      errno = ENOMEM;                                                         \
      return MAP_FAILED;                                                      \
    }                                                                         \
    return real(at, size, access, flags, fd, offset);                         \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

void *malloc(size_t size) {
  if (fails(kAllocError)) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  if (fails(kAllocError)) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_calloc(count, size);
}

void *realloc(void *data, size_t size) {
  if (fails(kAllocError)) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_realloc(data, size);
}
