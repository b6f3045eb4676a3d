/* The environment of sessions: see svr-environment.h.
 *
 * Everything here runs with the rights of the session. What is read belongs to
 * programs of the user, who may have made it of any bytes. */

#include "includes.h"
#include "dbutil.h"
#include "session.h"
#include "svr-environment.h"

#include <poll.h>

#define MAX_ENVIRONMENT (1 << 20)
/* execve() takes no longer string (MAX_ARG_STRLEN) */
#define MAX_VARIABLE 131071
/* How long the reader may sleep in the kernel, and how often it may have waited
 * for a processor for as long */
#define READ_TIMEOUT_MS 100
#define MAX_WAITS 50

/* A variable NAME=VALUE with this before it in the server's own environment is
 * one of a session that has none of that name */
#define DEFAULT_PREFIX "OCIHOOKS_SSH_DEFAULT_"

/* The lists hold how variables, as NAME=VALUE, begin */

/* Variables of one task of a job step, and what Slurm sets for its own start-up
 * of MPI's processes: both would mislead launchers in a session */
static const char *const not_in_sessions[] = {
	"SLURM_PROCID=", "SLURM_LOCALID=", "SLURM_GTIDS=", "SLURM_TASK_PID=",
	"SLURM_SRUN_COMM_", "SLURM_STEP_LAUNCHER_PORT=", "SLURM_LAUNCH_NODE_IPADDR=",
	"SLURM_PRIO_PROCESS=", "SLURM_PTY_", "SLURM_PMI",
	"PMI_", "PMI2_", "PMIX_", "OMPI_COMM_WORLD_", "MPI_LOCALRANKID=", "MPI_LOCALNRANKS=",
	"HYDRA_BOOTSTRAP=slurm", "HYDRA_LAUNCHER=slurm", "I_MPI_HYDRA_BOOTSTRAP=slurm",
	"HYDRA_LAUNCHER_EXTRA_ARGS=--external-launcher",
	"I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS=--external-launcher",
	"OMPI_MCA_plm=slurm", "PRTE_MCA_plm=slurm", "OMPI_MCA_plm_slurm_args=", "PRTE_MCA_plm_slurm_args=",
	NULL
};

/* Users' and images' settings of PMIx, whose names begin like those of tasks */
static const char *const in_sessions[] = { "PMIX_MCA_", "PMIX_PREFIX=", "PMIX_INSTALL_PREFIX=", NULL };

/* By these a session is in a job of Slurm's */
static const char *const in_job[] = { "SLURM_JOB_ID=", "SLURM_JOBID=", NULL };

/* Where a session is in a job, launchers start processes by ssh */
static const char *const job_defaults[] = {
	"HYDRA_BOOTSTRAP=ssh", "I_MPI_HYDRA_BOOTSTRAP=ssh", "OMPI_MCA_plm=^slurm", "PRTE_MCA_plm=^slurm", NULL
};

/* What a session or a shell sets itself */
static const char *const not_restored[] = {
	"BASHOPTS=", "BASH_VERSINFO=", "EUID=", "HOME=", "IFS=", "LOGNAME=", "OLDPWD=", "PPID=", "PWD=", "SHELL=",
	"SHELLOPTS=", "SHLVL=", "TERM=", "UID=", "USER=", "_=", "SSH_AUTH_SOCK=", "SSH_CLIENT=", "SSH_CONNECTION=",
	"SSH_ORIGINAL_COMMAND=", "SSH_PUBKEYINFO=", "SSH_TTY=", NULL
};

/* -J: the process, when it started, and the file for login shells */
static pid_t first_pid; /* 0 without */
static unsigned long long first_start;
static const char *environment_file;

void environment_parse(const char *arg) {
	int used = 0;

	if (sscanf(arg, "%d,%llu,%n", &first_pid, &first_start, &used) != 2 || used == 0 || first_pid <= 0) {
		dropbear_exit("Bad -J");
	}
	environment_file = &arg[used];
}

static int begins(const char *string, const char *const *prefixes) {
	for (; *prefixes; prefixes++) {
		if (strncmp(string, *prefixes, strlen(*prefixes)) == 0) {
			return 1;
		}
	}
	return 0;
}

/* proc_pid_stat(5): read the state of the process with the directory dir in
 * /proc, when it started, and where its environment is, which is 0 while it
 * executes a program */
static int read_stat(int dir, char *state, unsigned long long *start,
		unsigned long long *env_start, unsigned long long *env_end) {
	char buf[2048];
	char *word = NULL, *rest = NULL;
	ssize_t len = -1;
	int i;
	int fd = openat(dir, "stat", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		len = read(fd, buf, sizeof(buf) - 1);
		close(fd);
	}
	if (len <= 0) {
		return DROPBEAR_FAILURE;
	}
	buf[len] = '\0';
	/* The name before may hold blanks and brackets */
	word = strrchr(buf, ')');
	word = word ? strtok_r(word + 1, " ", &rest) : NULL;
	for (i = 0; word; i++, word = strtok_r(NULL, " ", &rest)) {
		switch (i) {
			case 0: *state = *word; break;
			case 19: *start = strtoull(word, NULL, 10); break;
			case 47: *env_start = strtoull(word, NULL, 10); break;
			case 48: *env_end = strtoull(word, NULL, 10); break;
		}
	}
	return i > 48 ? DROPBEAR_SUCCESS : DROPBEAR_FAILURE;
}

static int open_process(pid_t pid) {
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Read the environment of the first process, of which size bytes at most.
 * Returns its length, or -1 with errno */
static ssize_t read_environ(char *buf, size_t size) {
	unsigned long long start = 0, env_start = 0, env_end = 0;
	char state = 0;
	ssize_t len;
	int fd, err;
	/* It stays that process's, whoever has its pid later */
	int dir = open_process(first_pid);

	if (dir < 0) {
		return -1;
	}
	for (;;) {
		fd = openat(dir, "environ", O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			return -1;
		}
		/* At once: another read could be of the next program */
		len = read(fd, buf, size);
		err = errno;
		close(fd);
		if (len < 0) {
			errno = err;
			return -1;
		}
		if (read_stat(dir, &state, &start, &env_start, &env_end) == DROPBEAR_FAILURE
				|| start != first_start || state == 'Z') {
			errno = ESRCH;
			return -1;
		}
		if (len > 0 || (env_end != 0 && env_start == env_end)) {
			return len;
		}
		/* It executes a program at this moment. The caller limits how long */
		usleep(1000);
	}
}

/* Read the environment in a process of its own, which may be left behind: the
 * read waits for a lock that others can hold without end. Ends with errno */
static void run_reader(int fd, char *buf) {
	ssize_t len, pos, done;
	int i;

	/* Nobody waits for the end of what this process has open */
	for (i = 0; i <= MAX(ses.maxfd, fd + 1); i++) {
		if (i != fd) {
			close(i);
		}
	}
	signal(SIGALRM, SIG_DFL);
	alarm(READ_TIMEOUT_MS * MAX_WAITS / 1000 + 1);
	len = read_environ(buf, MAX_ENVIRONMENT + 1);
	if (len < 0) {
		_exit(errno);
	}
	for (pos = 0; pos < len; pos += done) {
		done = write(fd, buf + pos, (size_t)(len - pos));
		if (done <= 0) {
			_exit(errno);
		}
	}
	_exit(0);
}

/* Whether fd is readable before the reader has slept for too long */
static int is_ready(int fd, pid_t reader) {
	struct pollfd wanted;
	unsigned long long ignored;
	char state;
	int i, dir;

	wanted.fd = fd;
	wanted.events = POLLIN;
	for (i = 0; i < MAX_WAITS; i++) {
		if (poll(&wanted, 1, READ_TIMEOUT_MS) > 0) {
			return 1;
		}
		/* The node is busy, or the container has used up its processor time */
		state = 0;
		dir = open_process(reader);
		if (dir < 0) {
			return 0;
		}
		read_stat(dir, &state, &ignored, &ignored, &ignored);
		close(dir);
		if (state != 'R') {
			return 0;
		}
	}
	return 0;
}

/* Read what the reader writes. Returns its length, or -1 with errno */
static ssize_t receive(int fd, pid_t reader, char *buf) {
	ssize_t len = 0, done = 1;
	int status = 0;

	while (done > 0 && len <= MAX_ENVIRONMENT) {
		if (!is_ready(fd, reader)) {
			kill(reader, SIGKILL);
			/* Where it ends now, the session's shell has no child that it did not start */
			if (is_ready(fd, reader)) {
				waitpid(reader, NULL, 0);
			}
			errno = ETIMEDOUT;
			return -1;
		}
		done = read(fd, buf + len, (size_t)(MAX_ENVIRONMENT + 1 - len));
		len += MAX(done, 0);
	}
	if (len > MAX_ENVIRONMENT) {
		kill(reader, SIGKILL);
		waitpid(reader, NULL, 0);
		errno = E2BIG;
		return -1;
	}
	while (waitpid(reader, &status, 0) < 0 && errno == EINTR) {
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		return -1;
	}
	return len;
}

/* Whether all of it is variables: a program may have written its title over
 * them. Counts them */
static int is_environment(const char *buf, size_t len, size_t *count) {
	size_t pos = 0, size;

	if (len > 0 && buf[len - 1] != '\0') {
		return 0;
	}
	for (*count = 0; pos < len; pos += size + 1, (*count)++) {
		const char *equals = strchr(&buf[pos], '=');
		size = strlen(&buf[pos]);
		if (!equals || equals == &buf[pos] || size > MAX_VARIABLE) {
			return 0;
		}
	}
	return 1;
}

/* Returns the environment of the first process, or NULL, and its variables'
 * number */
static char *first_environment(size_t *count) {
	int fds[2];
	ssize_t len = -1;
	pid_t reader;
	char *buf = m_malloc(MAX_ENVIRONMENT + 1);

	if (pipe(fds) == 0) {
		reader = fork();
		if (reader == 0) {
			run_reader(fds[1], buf);
		}
		close(fds[1]);
		if (reader > 0) {
			len = receive(fds[0], reader, buf);
		}
		close(fds[0]);
	}
	if (len >= 0 && !is_environment(buf, (size_t)len, count)) {
		errno = EINVAL;
		len = -1;
	}
	if (len < 0) {
		dropbear_log(LOG_WARNING, "The variables of process %d cannot be read (%s): a session has those with "
				"which the container was created", first_pid, strerror(errno));
		m_free(buf);
		return NULL;
	}
	return buf;
}

static int has_variable(const char *variable) {
	const char *prefixes[] = { NULL, NULL };
	char *name = m_strdup(variable);
	char **entry;
	int found = 0;

	name[strcspn(name, "=") + 1] = '\0';
	prefixes[0] = name;
	for (entry = environ; *entry && !found; entry++) {
		found = begins(*entry, prefixes);
	}
	m_free(name);
	return found;
}

/* Set a variable, NAME=VALUE, unless there is one */
static void set_default(const char *variable) {
	if (strchr(variable, '=') && !has_variable(variable) && putenv((char*)variable) < 0) {
		dropbear_exit("environ error");
	}
}

/* Write a shell's command that sets a variable, unless a shell cannot have one
 * of that name */
static void write_export(FILE *file, const char *variable) {
	size_t len = strcspn(variable, "=");
	const char *value = &variable[len];
	size_t i;

	for (i = 0; i < len; i++) {
		char c = variable[i];
		if (!(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (i > 0 && c >= '0' && c <= '9'))) {
			return;
		}
	}
	if (len == 0 || *value != '=' || begins(variable, not_restored)) {
		return;
	}
	fprintf(file, "export %.*s='", (int)len, variable);
	for (value++; *value; value++) {
		if (*value == '\'') {
			fputs("'\\''", file);
		} else {
			fputc(*value, file);
		}
	}
	fputs("'\n", file);
}

/* Keep the variables for login shells, as /etc/profile may change them. A file
 * is replaced as a whole: other sessions begin meanwhile */
static void keep_for_login_shells(void) {
	char path[512];
	FILE *file = NULL;
	char **entry;
	int fd, failed = 1;

	snprintf(path, sizeof(path), "%s.%d", environment_file, getpid());
	/* Beyond the session's limit of file sizes it is an error like others */
	signal(SIGXFSZ, SIG_IGN);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0) {
		file = fdopen(fd, "w");
	}
	if (file) {
		for (entry = environ; *entry; entry++) {
			write_export(file, *entry);
		}
		failed = ferror(file);
		failed |= fclose(file) != 0;
	}
	if (failed || rename(path, environment_file) < 0) {
		dropbear_log(LOG_WARNING, "%s cannot be written: login shells have an earlier session's variables",
				environment_file);
		unlink(path);
	}
	signal(SIGXFSZ, SIG_DFL);
}

void environment_set(void) {
	char **inherited = environ;
	char **entry, **table;
	const char *const *variable;
	const char *own_prefix[] = { DEFAULT_PREFIX, NULL };
	const char *next;
	size_t count = 0, size = 0;
	char *first;
	int is_in_job = 0;

	if (first_pid == 0) {
		return;
	}
	first = first_environment(&count);
	if (!first) {
		count = 0;
		for (entry = inherited; *entry; entry++) {
			count++;
		}
	}
	table = m_malloc((count + 1) * sizeof(char*));
	next = first;
	entry = inherited;
	for (; count > 0; count--) {
		const char *current = first ? next : *entry++;
		if (first) {
			next += strlen(next) + 1;
		}
		if ((begins(current, not_in_sessions) && !begins(current, in_sessions))
				|| begins(current, own_prefix)) {
			continue;
		}
		is_in_job |= begins(current, in_job);
		table[size++] = (char*)current;
	}
	table[size] = NULL;
	environ = table;

	for (entry = inherited; *entry; entry++) {
		if (begins(*entry, own_prefix)) {
			const char *own = *entry + strlen(DEFAULT_PREFIX);
			set_default(own);
			is_in_job |= begins(own, in_job);
		}
	}
	for (variable = job_defaults; is_in_job && *variable; variable++) {
		set_default(*variable);
	}
	keep_for_login_shells();
}
