/* The gate: see svr-gate.h. While the server waits here, the runtime sets up the
 * container, and its user may already run processes elsewhere on the node. All that
 * is read are descriptors of /proc that were opened before. */

#include "includes.h"
#include "dbutil.h"
#include "session.h"
#include "runopts.h"
#include "svr-gate.h"
#include "svr-logins.h"

#include <poll.h>
#include <sys/prctl.h>

#define MAX_DELAY_MS 100 /* between two looks at the process behind the gate */

/* proc_pid_stat(5): the flag of a forked process until its first exec, of include/linux/sched.h */
#define PF_FORKNOEXEC 0x40UL

/* Descriptors: the stat of the process to wait for, and the pipe that is told when
 * the server listens */
static int stat_fd = -1, ready_fd = -1;
/* mountinfo as opened before and after the server's chroot, -1 without; the id of the
 * mount that is to become the root, and that of the mount above the old root */
static int before_fd = -1, mounts_fd = -1;
static unsigned int root_mount, above_mount;

void gate_set_traceable(int traceable) {
	prctl(PR_SET_DUMPABLE, traceable, 0, 0, 0);
}

void gate_parse(const char *arg) {
	int given = sscanf(arg, "%d,%d,%d,%d,%u,%u", &stat_fd, &ready_fd, &before_fd, &mounts_fd,
			&root_mount, &above_mount);

	if ((given != 2 && given != 6) || stat_fd < 0 || ready_fd < 0
		|| (given == 6 && (before_fd < 0 || mounts_fd < 0))) {
		dropbear_exit("Bad -S");
	}
}

int gate_is_given(void) {
	return stat_fd >= 0;
}

/* Whether the process has yet to run a program of its own. Exits when it has ended */
static int is_before_exec(void) {
	char buf[2048];
	const char *fields = NULL;
	unsigned long flags = 0;
	char state = 'Z';
	ssize_t len = -1;

	if (lseek(stat_fd, 0, SEEK_SET) == 0) {
		len = read(stat_fd, buf, sizeof(buf) - 1);
	}
	if (len > 0) {
		buf[len] = '\0';
		/* The name before may hold blanks and brackets */
		fields = strrchr(buf, ')');
	}
	/* state, ppid, pgrp, session, tty_nr, tpgid, flags */
	if (fields == NULL
		|| sscanf(fields + 1, " %c %*d %*d %*d %*d %*d %lu", &state, &flags) != 2
		|| state == 'Z' || state == 'X') {
		unlink(svr_opts.pidfile);
		dropbear_close("The process that this server was started for has ended");
	}
	return (flags & PF_FORKNOEXEC) != 0;
}

/* Whether the mountinfo that is open as fd has the mount of the server's root
 * directory on the mount *parent, or, without one, at the path "/". The first
 * mount of a node may have the id 0. */
static int has_root_mount(int fd, const unsigned int *parent) {
	FILE *table = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	int found = 0;

	while (table != NULL && !found && getline(&line, &size, table) > 0) {
		unsigned int id = 0, on = 0;
		int path = 0;
		/* proc_pid_mountinfo(5): mount, parent, device, root, path */
		if (sscanf(line, "%u %u %*s %*s %n", &id, &on, &path) == 2 && id == root_mount) {
			found = parent ? on == *parent : path > 0 && strncmp(&line[path], "/ ", 2) == 0;
		}
	}
	free(line);
	if (table != NULL) {
		fclose(table);
	}
	return found;
}

/* Whether the mount of the server's root directory has become the root of its
 * mount namespace. pivot_root(2) puts it where the old root was mounted, which
 * is shown to those with the new root; MS_MOVE puts it on the old root, which
 * is shown to those with that one. A mount that was not chosen stays where it
 * was, or is in no namespace any more. */
static int is_in_place(void) {
	int has_moved = has_root_mount(before_fd, NULL);
	return has_root_mount(mounts_fd, &above_mount) || has_moved;
}

/* SELinux puts an empty file in the place of one that this program may not
 * read. Neither the stat of a process nor a mountinfo is empty. */
static void require_content(int fd) {
	char byte;

	if (lseek(fd, 0, SEEK_SET) != 0 || read(fd, &byte, 1) != 1 || lseek(fd, 0, SEEK_SET) != 0) {
		unlink(svr_opts.pidfile);
		dropbear_exit("The gate's files cannot be read");
	}
}

/* Clients that connect meanwhile wait in the backlog */
static void wait_for_exec(void) {
	int waited = 0; /* milliseconds, up to where it makes no difference */

	while (is_before_exec()) {
		/* Soon at first, and then later by a sixty-fourth of the wait at most */
		int delay = MAX(1, waited / 64);
		poll(NULL, 0, delay);
		waited = MIN(waited + delay, 64 * MAX_DELAY_MS);
		if (ses.exitflag) {
			unlink(svr_opts.pidfile);
			dropbear_close("Terminated by signal");
		}
	}
}

void gate_wait(void) {
	if (!gate_is_given()) {
		return;
	}
	/* Now, while somebody waits who can say what is wrong */
	require_content(stat_fd);
	if (before_fd >= 0) {
		require_content(before_fd);
		require_content(mounts_fd);
	}
	/* Nobody reads what the server itself says of logins that it cannot log */
	if (write(ready_fd, logins_listener() ? "\n" : "!", 1) != 1) {
		dropbear_exit("Nobody waits for this server");
	}
	m_close(ready_fd);
	wait_for_exec();
	m_close(stat_fd);
	if (before_fd >= 0 && !is_in_place()) {
		unlink(svr_opts.pidfile);
		dropbear_exit("The container's root is not the mount that this server was set up in");
	}
	if (!logins_gate_is_open()) {
		gate_set_traceable(1);
	}
}
