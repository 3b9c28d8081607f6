/* Runs a command and sees its system calls and those of its threads and children before they happen. Ends as the command does,
 * 128 + N for signal N, and hands SIGTERM on to it. Follows seccomp_unotify(2).
 *
 * trace fail NUMBER ERRNO COMMAND...: one system call fails.
 *
 * System calls that work on files, directories and sockets are counted from the first poll(2) of three descriptors on: with it
 * Rust's runtime begins, behind the dynamic loader. The call with this NUMBER does not happen and answers ERRNO; 0: none. At the
 * end its last line on standard error is 'failing: COUNT calls, SYSCALL failed', and before it, as it happens, a line 'struck: ...'.
 *
 * trace report SOCKET NUMBER[:ARGUMENT:MASK],... COMMAND...: each of these system calls is reported; with a mask only if the
 * argument has one of its bits.
 *
 * It connects to the unix stream SOCKET, writes the struct seccomp_notif of each call, and continues the call after a byte in
 * reply. Calls of all threads wait for each other, so the reports have the order of the calls. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
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

#define MOST 128
/* Instructions for a system call, and its end. */
#define EACH 5

static pid_t command;

/* The system calls that the filter asks about; without a mask always. */
static struct {
    unsigned number, argument, mask;
} asked[MOST];
static size_t asked_count;

static void fail(const char *what) {
    perror(what);
    exit(125);
}

static void ask(unsigned number, unsigned argument, unsigned mask) {
    if (asked_count == MOST || argument > 5) {
        errno = EINVAL;
        fail("trace: system calls");
    }
    asked[asked_count].number = number;
    asked[asked_count].argument = argument;
    asked[asked_count++].mask = mask;
}

/* The listener of a filter that asks about these calls. */
static int listener(void) {
    struct sock_filter code[MOST * EACH + 2];
    size_t at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < asked_count; index++) {
        unsigned mask = asked[index].mask, argument = asked[index].argument;
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, asked[index].number, 0, mask ? 4 : 1);
        if (mask) {
            /* The low half of the argument: both architectures of the tests are little-endian. */
            code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, args) + 8 * argument);
            code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 1, 0);
            code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        }
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)at, .filter = code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Waits with the listener open until the other process has taken it. */
static void run(char **arguments) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        fail("trace: prctl");
    int descriptor = listener();
    if (descriptor < 0)
        fail("trace: seccomp");
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

/* What `fail` was told, and what it has seen. */
static long wanted, number;
static int answer, failed = -1, begun;

/* What a program sends to itself does not fail so: a counter of eventfd(2), written with 8 bytes, and tokio's own socket for
 * signals, written with 1 byte and read with 128. */
static int is_own(const struct seccomp_data *call) {
    return (call->nr == SYS_write && call->args[2] == 8) || (call->nr == SYS_sendto && call->args[2] == 1) ||
           (call->nr == SYS_recvfrom && call->args[2] == 128);
}

/* The errno of a call, 0 to continue it. */
static int count_call(const struct seccomp_notif *request) {
    if (request->data.nr == MARK) {
        begun = begun || request->data.args[1] == 3;
        return 0;
    }
    if (is_own(&request->data) || !begun || ++number != wanted)
        return 0;
    failed = request->data.nr;
    fprintf(stderr, "struck: call %ld, system call %d of thread %d, first argument %lld\n", number, failed, (int)request->pid,
            (long long)request->data.args[0]);
    return answer;
}

/* The reader of the reports; -1 for `fail`. */
static int reader = -1;

/* openat2(2) has its flags in memory, and an agent opens each attribute of sysfs with it. */
static int only_opens(const struct seccomp_notif *request) {
    unsigned long long flags = 0;
    struct iovec here = {&flags, sizeof flags}, there = {(void *)request->data.args[2], sizeof flags};
    return request->data.nr == SYS_openat2 && process_vm_readv((pid_t)request->pid, &here, 1, &there, 1, 0) == sizeof flags &&
           !(flags & (O_CREAT | O_TRUNC));
}

static int report_call(const struct seccomp_notif *request) {
    char reply;
    if (only_opens(request))
        return 0;
    if (write(reader, request, sizeof *request) != (ssize_t)sizeof *request || read(reader, &reply, 1) != 1)
        fail("trace: no reader");
    return 0;
}

static void connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail("trace: socket");
    }
    strcpy(address.sun_path, path);
    reader = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (reader < 0 || connect(reader, (struct sockaddr *)&address, sizeof address))
        fail("trace: socket");
}

static void parse(char **arguments) {
    if (strcmp(arguments[1], "report") == 0) {
        for (char *one = strtok(arguments[3], ","); one != NULL; one = strtok(NULL, ",")) {
            unsigned number = 0, argument = 0, mask = 0;
            sscanf(one, "%u:%u:%u", &number, &argument, &mask);
            ask(number, argument, mask);
        }
        connect_to(arguments[2]);
        return;
    }
    for (size_t index = 0; index < COUNT; index++)
        ask((unsigned)COUNTED[index], 0, 0);
    ask(MARK, 0, 0);
    wanted = atol(arguments[2]);
    answer = atoi(arguments[3]);
}

/* Answers one notification. */
static void serve(int descriptor) {
    struct seccomp_notif request = {0};
    if (ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, &request))
        return;
    int error = reader < 0 ? count_call(&request) : report_call(&request);
    struct seccomp_notif_resp response = {.id = request.id, .error = -error};
    response.flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ioctl(descriptor, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

int main(int count, char **arguments) {
    int status = 0;
    if (count < 5)
        return 125;
    parse(arguments);
    signal(SIGTERM, pass);
    command = fork();
    if (command < 0)
        fail("trace: fork");
    if (command == 0)
        run(arguments + 4);
    while (waitpid(command, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
    int pidfd = (int)syscall(SYS_pidfd_open, command, 0), descriptor = taken(pidfd);
    if (descriptor < 0)
        fail("trace: no listener");
    kill(command, SIGCONT);
    for (;;) {
        struct pollfd ready[2] = {{descriptor, POLLIN, 0}, {pidfd, POLLIN, 0}};
        if (poll(ready, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            fail("trace: poll");
        }
        if (ready[0].revents & POLLIN)
            serve(descriptor);
        else if (ready[1].revents)
            break;
    }
    while (waitpid(command, &status, 0) < 0 && errno == EINTR)
        ;
    if (reader < 0)
        fprintf(stderr, "failing: %ld calls, %d failed\n", number, failed);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
