/* A disk whose flushes are slower: LD_PRELOAD this, and every fsync, fdatasync and syncfs takes SLOW_SYNC_US
   microseconds longer, one at a time, as on a disk that does not overlap them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static int slower(const char *name, int fd)
{
    const char *told = getenv("SLOW_SYNC_US");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result;

    pthread_mutex_lock(&one);
    if (told)
        usleep((useconds_t)atoi(told));
    result = real(fd);
    pthread_mutex_unlock(&one);
    return result;
}

int fsync(int fd) { return slower("fsync", fd); }
int fdatasync(int fd) { return slower("fdatasync", fd); }
int syncfs(int fd) { return slower("syncfs", fd); }
