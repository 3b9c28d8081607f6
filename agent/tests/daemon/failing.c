/* failing NUMBER ERRNO COMMAND...: runs a command of which one system call fails.
 *
 * System calls that work on files, directories and sockets are counted, those of all threads and children, from the first
 * poll(2) of three descriptors on: with it Rust's runtime begins, behind the dynamic loader. The call with this NUMBER does
 * not happen and answers ERRNO; 0: none. Ends as the command does, 128 + N for signal N, and hands SIGTERM on to it. At the
 * end its last line on standard error is 'failing: COUNT calls, SYSCALL failed', and before it, as it happens, a line 'struck: ...'.
 * Follows seccomp_unotify(2). */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const int COUNTED[] = {
    SYS_openat, SYS_openat2, SYS_read, SYS_pread64, SYS_readv, SYS_recvmsg, SYS_recvfrom, SYS_write, SYS_writev,
    SYS_pwrite64, SYS_sendmsg, SYS_sendto, SYS_fsync, SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_mkdirat, SYS_fchmod,
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept4, SYS_getdents64, SYS_readlinkat, SYS_statx,
    SYS_newfstatat, SYS_flock, SYS_epoll_create1, SYS_epoll_ctl, SYS_eventfd2, SYS_pipe2, SYS_inotify_init1,
#ifdef SYS_open
    SYS_open, SYS_rename, SYS_unlink, SYS_mkdir, SYS_readlink, SYS_chmod,
#endif
};
#define COUNT (sizeof COUNTED / sizeof COUNTED[0])

#ifdef SYS_poll
#define MARK SYS_poll
#else
#define MARK SYS_ppoll
#endif

static pid_t command;

static void fail(const char *what) {
    perror(what);
    exit(125);
}


/* The listener of a filter that asks about the counted calls. */
static int listener(void) {
    struct sock_filter code[COUNT + 5];
    size_t at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < COUNT; index++)
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)COUNTED[index], (unsigned char)(COUNT - index + 1), 0);
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 1, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {.len = (unsigned short)at, .filter = code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Waits with the listener open until the other process has taken it. */
static void run(char **arguments) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        fail("failing: prctl");
    int descriptor = listener();
    if (descriptor < 0)
        fail("failing: seccomp");
    raise(SIGSTOP);
    close(descriptor);
    execv(arguments[0], arguments);
    _exit(126);
}

/* The stopped child's listener: the one descriptor that knows of notifications. */
static int taken(int pidfd) {
    for (int candidate = 3; candidate < 64; candidate++) {
        unsigned long long id = 0;
        int descriptor = (int)syscall(SYS_pidfd_getfd, pidfd, candidate, 0);
        if (descriptor >= 0 && ioctl(descriptor, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) && errno == ENOENT)
            return descriptor;
        if (descriptor >= 0)
            close(descriptor);
    }
    return -1;
}

static void pass(int signal_number) {
    if (command > 0)
        kill(command, signal_number);
}

int main(int count, char **arguments) {
    if (count < 4)
        return 125;
    long wanted = atol(arguments[1]), number = 0;
    int answer = atoi(arguments[2]), failed = -1, begun = 0, status = 0;
    signal(SIGTERM, pass);
    command = fork();
    if (command < 0)
        fail("failing: fork");
    if (command == 0)
        run(arguments + 3);
    while (waitpid(command, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
    int pidfd = (int)syscall(SYS_pidfd_open, command, 0), descriptor = taken(pidfd);
    if (descriptor < 0)
        fail("failing: no listener");
    kill(command, SIGCONT);
    for (;;) {
        struct pollfd ready[2] = {{descriptor, POLLIN, 0}, {pidfd, POLLIN, 0}};
        if (poll(ready, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            fail("failing: poll");
        }
        if (ready[0].revents & POLLIN) {
            struct seccomp_notif request = {0};
            struct seccomp_notif_resp response = {0};
            if (ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, &request))
                continue;
            response.id = request.id;
            response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
            /* What a program sends to itself does not fail so: a counter of eventfd(2), written with 8 bytes, and tokio's own
             * socket for signals, written with 1 byte and read with 128. */
            int is_own = (request.data.nr == SYS_write && request.data.args[2] == 8) ||
                         (request.data.nr == SYS_sendto && request.data.args[2] == 1) ||
                         (request.data.nr == SYS_recvfrom && request.data.args[2] == 128);
            if (request.data.nr == MARK)
                begun = begun || request.data.args[1] == 3;
            else if (!is_own && begun && ++number == wanted) {
                response.flags = 0;
                response.error = -answer;
                failed = request.data.nr;
                fprintf(stderr, "struck: call %ld, system call %d of thread %d, first argument %lld\n", number, failed, (int)request.pid,
                        (long long)request.data.args[0]);
            }
            ioctl(descriptor, SECCOMP_IOCTL_NOTIF_SEND, &response);
            continue;
        }
        if (ready[1].revents)
            break;
    }
    while (waitpid(command, &status, 0) < 0 && errno == EINTR)
        ;
    fprintf(stderr, "failing: %ld calls, %d failed\n", number, failed);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
