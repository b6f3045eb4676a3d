/*
 * A SPANK plugin for tests. It starts and joins containers as skybox does, the Sarus Suite's plugin: `srun --edf=NAME`
 * has one container on each node, which the node's first task starts and all of its tasks join. What users and a hook
 * can see of that is the same: arguments, environments, processes, cgroups, namespaces, files and the order of events.
 *
 * Files with environments, and podman's arguments, are the matter of the program `edf` beside it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/spank.h>

SPANK_PLUGIN(skybox, 1)

#define EDF "/usr/local/lib/sarus-suite/edf"
#define STORE "/home/images" /* common to all nodes */
#define VARIABLE "SLURM_EDF_EXPANDED"
#define TENTH 100000 /* microseconds */
#define FAIL(...) (slurm_error("[skybox] " __VA_ARGS__), -1)

static char *environment;  /* what `srun --edf` names */
static char edf[1 << 16];  /* its text, with all that srun has replaced in it */
static char container[64]; /* the container's name */
static char base[96];      /* the directory with podman's files of this step */
static char imported[128]; /* the file by which all nodes know that the store has the image */

static int take_option(int value, const char *argument, int remote)
{
    (void)value, (void)remote;
    free(environment); /* the last one counts */
    environment = strdup(argument);
    return environment ? 0 : -1;
}

static struct spank_option option = {"edf", "NAME|PATH", "run the tasks in a container", 1, 0, take_option};

/*
 * Run a program that reads nothing. Put what it prints into a text, with its errors or without; return its exit status.
 * Returns when nobody has this output open any more, so that a process that is left behind with it holds up the task.
 */
static int run(char *const argv[], bool with_errors, char *text, size_t size, size_t *length)
{
    int ends[2], status;
    pid_t pid;
    ssize_t count;
    char rest[4096];

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return -1;
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        sigset_t none;

        dup2(null, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        if (with_errors)
            dup2(ends[1], STDERR_FILENO);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    *length = 0;
    do {
        bool is_full = *length == size - 1;

        count = read(ends[0], is_full ? rest : text + *length, is_full ? sizeof rest : size - 1 - *length);
        if (count > 0 && !is_full)
            *length += (size_t)count;
    } while (count > 0 || (count < 0 && errno == EINTR));
    text[*length] = '\0';
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Have `edf` call podman. The user is told the exit status alone: what podman says goes to slurmd's log. */
static int podman(char *action)
{
    char text[1 << 14], *line, *rest = text;
    size_t length;
    int status = run((char *[]){EDF, action, edf, base, container, STORE, NULL}, true, text, sizeof text, &length);

    while ((line = strsep(&rest, "\n")))
        if (*line)
            slurm_debug("[skybox] podman %s: %s", action, line);
    return status;
}

static int make_directory(const char *path)
{
    return mkdir(path, 0700) < 0 && errno != EEXIST ? FAIL("cannot make %s: %m", path) : 0;
}

/* The image is looked for by the first of all tasks; the others wait for what it has found, without a limit. */
static int have_image(bool is_first)
{
    int found = -1;
    FILE *file;

    if (is_first) {
        found = podman("find") == 0 ? 0 : -1;
        if (!(file = fopen(imported, "w")))
            return FAIL("cannot write %s: %m", imported);
        fprintf(file, "%d\n", found);
        fclose(file);
    } else {
        while (!(file = fopen(imported, "r")))
            sleep(1);
        if (fscanf(file, "%d", &found) != 1)
            found = -1;
        fclose(file);
    }
    return found == 0 ? 0 : FAIL("image importer exited with %d", found);
}

/* Return the first process of this node's container, or -1 while podman has not written it. */
static pid_t first_process(void)
{
    char path[128];
    int pid = -1;
    FILE *file;

    snprintf(path, sizeof path, "%s/pidfile", base);
    if (!(file = fopen(path, "r")))
        return -1;
    if (fscanf(file, "%d", &pid) != 1)
        pid = -1;
    fclose(file);
    return pid;
}

/* Return the letter with which /proc describes a process, or 0 where there is none. */
static char state(pid_t pid)
{
    char path[64], letter = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!(file = fopen(path, "r")))
        return 0;
    if (fscanf(file, "%*d (%*[^)]) %c", &letter) != 1)
        letter = 0;
    fclose(file);
    return letter;
}

/* Wait up to a minute for the container, and up to five for its entrypoint; then the first process stops itself. */
static pid_t wait_until_stopped(void)
{
    pid_t pid;
    char letter;

    for (int left = 600; (pid = first_process()) < 0; left--) {
        if (left == 0)
            return FAIL("failed to read container pidfile %s/pidfile.", base);
        usleep(TENTH);
    }
    for (int left = 3000; (letter = state(pid)) != 'T'; left--) {
        if (letter == 0)
            return FAIL("cannot find process %d", pid);
        if (left == 0)
            return FAIL("container entrypoint process %d did not complete.", pid);
        usleep(TENTH);
    }
    return pid;
}

static int open_namespace(pid_t pid, const char *kind)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kind);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Of the namespaces the user's and that of mounts alone. Nothing is dropped then: no capability, no system call. */
static int join(pid_t pid)
{
    int user = open_namespace(pid, "user"), mounts = open_namespace(pid, "mnt");

    if (user < 0 || mounts < 0 || setns(user, CLONE_NEWUSER) < 0 || setns(mounts, CLONE_NEWNS) < 0)
        return FAIL("failed to join the namespaces of process %d: %m", pid);
    close(user);
    close(mounts);
    return 0;
}

/* Read what a file of /proc has; return its length, or -1. */
static ssize_t read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t length;

    if (!file)
        return -1;
    length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return (ssize_t)length;
}

/* Whether texts of the form NAME=VALUE, each with a NUL at its end, have this name. */
static bool has(const char *texts, const char *end, const char *name, size_t length)
{
    for (; texts < end; texts += strlen(texts) + 1)
        if (strncmp(texts, name, length) == 0 && texts[length] == '=')
            return true;
    return false;
}

/*
 * Give the task, which has the step's variables, those of the EDF, and above them those of the container's first process
 * but for the ones that the EDF has. An empty one of the EDF is unset.
 */
static int import_variables(spank_t spank, pid_t pid, const char *own, const char *own_end)
{
    static char texts[1 << 20];
    static const char *const denied[] = {"LANG", "LANGUAGE", "LC_ALL"};
    char path[64];
    ssize_t length;

    for (size_t index = 0; index < sizeof denied / sizeof *denied; index++)
        if (!has(own, own_end, denied[index], strlen(denied[index])))
            spank_unsetenv(spank, denied[index]);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    if ((length = read_file(path, texts, sizeof texts)) < 0)
        return FAIL("couldn't open environ %s: %m", path);
    for (const char *text = own; text < own_end; text += strlen(text) + 1) {
        const char *value = strchr(text, '=') + 1;
        char *name = strndup(text, (size_t)(value - 1 - text));

        if (*value)
            spank_setenv(spank, name, value, 1);
        else
            spank_unsetenv(spank, name);
        free(name);
    }
    for (char *text = texts; text < texts + length;) {
        char *next = text + strlen(text) + 1, *value = strchr(text, '=');

        if (!value)
            return FAIL("couldn't parse environ value %s", text);
        if (!has(own, own_end, text, (size_t)(value - text))) {
            *value = '\0';
            spank_setenv(spank, text, value + 1, 1);
        }
        text = next;
    }
    return 0;
}

/* The texts of the EDF's that `edf` prints: the working directory, and then the variables. */
static int enter(spank_t spank, pid_t pid)
{
    static char texts[1 << 16];
    char directory[64];
    const char *variables;
    struct stat info;
    size_t length;

    if (run((char *[]){EDF, "environment", edf, NULL}, false, texts, sizeof texts, &length) != 0)
        return FAIL("cannot read " VARIABLE);
    variables = texts + strlen(texts) + 1;
    if (join(pid) < 0)
        return -1;
    snprintf(directory, sizeof directory, "/proc/%d/cwd", pid);
    for (int left = 600; stat(directory, &info) < 0 || !S_ISDIR(info.st_mode); left--) {
        if (left == 0)
            return FAIL("failed to resolve container cwd via %s", directory);
        usleep(TENTH);
    }
    if (import_variables(spank, pid, variables, texts + length) < 0)
        return -1;
    return chdir(*texts ? texts : directory) < 0 ? FAIL("cannot enter %s: %m", texts) : 0;
}

/* Of an environment that srun's user names, the text goes to all nodes by a variable of the step's. */
static int render(void)
{
    size_t length;

    if (run((char *[]){EDF, "render", environment, NULL}, false, edf, sizeof edf, &length) != 0)
        return -1;
    return setenv(VARIABLE, edf, 1);
}

int slurm_spank_init(spank_t spank, int argc, char *argv[])
{
    spank_context_t context = spank_context();

    (void)argc, (void)argv;
    if (context != S_CTX_LOCAL && context != S_CTX_REMOTE)
        return 0;
    return spank_option_register(spank, &option) == ESPANK_SUCCESS ? 0 : -1;
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char *argv[])
{
    uint32_t job, step;

    (void)argc, (void)argv;
    if (!environment)
        return 0;
    if (!spank_remote(spank))
        return render();
    if (spank_getenv(spank, VARIABLE, edf, sizeof edf) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
        return FAIL("cannot read the step");
    snprintf(container, sizeof container, "skybox_%u.%u", job, step);
    snprintf(base, sizeof base, "/dev/shm/%s", container);
    snprintf(imported, sizeof imported, STORE "/.%s_import.done", container);
    return 0;
}

/* As the user. */
int slurm_spank_user_init(spank_t spank, int argc, char *argv[])
{
    char path[128];

    (void)spank, (void)argc, (void)argv;
    if (!environment || make_directory(base) < 0)
        return environment ? -1 : 0;
    snprintf(path, sizeof path, "%s/graphroot", base);
    if (make_directory(path) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/runroot", base);
    return make_directory(path);
}

/* As root. */
int slurm_spank_task_init_privileged(spank_t spank, int argc, char *argv[])
{
    char path[64];
    uid_t uid;
    gid_t gid;

    (void)argc, (void)argv;
    if (!environment)
        return 0;
    spank_get_item(spank, S_JOB_UID, &uid);
    spank_get_item(spank, S_JOB_GID, &gid);
    snprintf(path, sizeof path, "/run/user/%u", uid);
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : FAIL("cannot make %s: %m", path);
    return chown(path, uid, gid);
}

/* As the user, in the task's own process and cgroup, before it executes its program. */
int slurm_spank_task_init(spank_t spank, int argc, char *argv[])
{
    uint32_t of_all;
    int of_node, status;
    pid_t pid;

    (void)argc, (void)argv;
    if (!environment)
        return 0;
    if (spank_get_item(spank, S_TASK_ID, &of_node) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_TASK_GLOBAL_ID, &of_all) != ESPANK_SUCCESS)
        return FAIL("cannot read the task");
    if (have_image(of_all == 0) < 0)
        return -1;
    if (of_node == 0 && (status = podman("run")) != 0)
        return FAIL("podman run exited with %d", status);
    pid = wait_until_stopped();
    return pid < 0 ? -1 : enter(spank, pid);
}

/* As root. The last task of the node lets the first process go on, which ends, and so does the container. */
int slurm_spank_task_exit(spank_t spank, int argc, char *argv[])
{
    char directory[128], path[160];
    uint32_t tasks, ended = 0;
    int task;
    pid_t pid;

    (void)argc, (void)argv;
    if (!environment)
        return 0;
    spank_get_item(spank, S_TASK_ID, &task);
    spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
    snprintf(directory, sizeof directory, "%s/completed", base);
    if (make_directory(directory) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/task_%d.exit", directory, task);
    close(creat(path, 0644));
    for (uint32_t number = 0; number < tasks; number++) {
        snprintf(path, sizeof path, "%s/task_%u.exit", directory, number);
        ended += access(path, F_OK) == 0;
    }
    if (ended < tasks || (pid = first_process()) < 0)
        return 0;
    kill(pid, SIGCONT);
    if (state(pid))
        sleep(1);
    if (state(pid))
        kill(pid, SIGTERM);
    return 0;
}

/* As root, at the end of the step. Nobody waits for podman's own clean-up. */
int slurm_spank_exit(spank_t spank, int argc, char *argv[])
{
    char text[4096];
    size_t length;
    uint32_t node;

    (void)argc, (void)argv;
    if (!environment || !spank_remote(spank) || !*base)
        return 0;
    if (run((char *[]){"/bin/rm", "-rf", base, NULL}, true, text, sizeof text, &length) != 0)
        slurm_error("[skybox] couldn't cleanup: %s", text);
    if (spank_get_item(spank, S_JOB_NODEID, &node) == ESPANK_SUCCESS && node == 0)
        unlink(imported);
    return 0;
}
