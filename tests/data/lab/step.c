/*
 * Preloaded into the agent: kills it at a chosen step, to test a crash at each step.
 *
 * A step is a call that changes a file of the agent's records or of sysfs. The file /run/lab-step/plan has "NUMBER WHEN". At that
 * step the agent's main process gets SIGKILL:
 *   before     before the call, which is then not made
 *   meanwhile  before the call, which is still made
 *   after      after the call
 * Each step is logged in /run/lab-step/log; without a plan there is no kill.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FOLDER "/run/lab-step/"

enum when { NOT, BEFORE, MEANWHILE, AFTER };

static int counts(const char *path)
{
    return !strncmp(path, "/run/variantd/records", 21) || !strncmp(path, "/sys/", 5);
}

/* Returns the number of this step, counted over all processes, and logs the step. */
static int number(const char *verb, const char *path)
{
    char text[65536], line[4352];
    int lines = 1, log = REAL(open)(FOLDER "log", O_RDWR | O_APPEND | O_CLOEXEC);
    if (log < 0)
        return 0;
    flock(log, LOCK_EX);
    for (ssize_t got; (got = read(log, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            lines += text[i] == '\n';
    int size = snprintf(line, sizeof line, "%d %s %s\n", lines, verb, path);
    if (REAL(write)(log, line, size) != size)
        lines = 0;
    close(log);
    return lines;
}

static enum when planned(int step)
{
    char text[64] = "", word[16] = "";
    int at = 0, plan = REAL(open)(FOLDER "plan", O_RDONLY | O_CLOEXEC);
    if (plan < 0)
        return NOT;
    ssize_t got = read(plan, text, sizeof text - 1);
    close(plan);
    if (got <= 0 || sscanf(text, "%d %15s", &at, word) != 2 || at != step)
        return NOT;
    return word[0] == 'b' ? BEFORE : word[0] == 'm' ? MEANWHILE : AFTER;
}

/* Kills the agent's main process; a write to sysfs is made by its child. */
static void kill_agent(void)
{
    char name[32] = "";
    int file = REAL(open)("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    char line[256] = "";
    ssize_t got = read(file, line, sizeof line - 1);
    close(file);
    if (got > 0)
        snprintf(name, sizeof name, "%s", line + strlen(line) + 1);
    kill(strcmp(name, "write-attribute") ? getpid() : getppid(), SIGKILL);
}

static enum when reach(const char *verb, const char *path)
{
    if (!counts(path))
        return NOT;
    enum when when = planned(number(verb, path));
    if (when == BEFORE || when == MEANWHILE)
        kill_agent();
    while (when == BEFORE)
        pause();
    return when;
}

static enum when reach_file(const char *verb, int file)
{
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return NOT;
    path[size] = 0;
    return reach(verb, path);
}

#define STEP(REACHED, CALL)                                                                                            \
    enum when when = REACHED;                                                                                          \
    __typeof__(CALL) result = CALL;                                                                                    \
    if (when == AFTER)                                                                                                 \
        kill_agent();                                                                                                      \
    return result

ssize_t write(int file, const void *bytes, size_t size)
{
    STEP(reach_file("write", file), REAL(write)(file, bytes, size));
}

int fsync(int file)
{
    STEP(reach_file("fsync", file), REAL(fsync)(file));
}

int rename(const char *from, const char *to)
{
    STEP(reach("rename", to), REAL(rename)(from, to));
}

int unlink(const char *path)
{
    STEP(reach("unlink", path), REAL(unlink)(path));
}

int mkdir(const char *path, mode_t mode)
{
    STEP(reach("mkdir", path), REAL(mkdir)(path, mode));
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    STEP(flags & O_CREAT ? reach("create", path) : NOT, REAL(open64)(path, flags, mode));
}
