/*
 * Connections between containers of one user.
 *
 * Whoever starts a container gives it a configuration of these connections,
 * and the host keys that all containers of the user share, both in files that
 * the container's user cannot change. The configuration is ssh_config(5): a
 * "Match user" section names the user's own login names, with their port and
 * key; ConnectTimeout is the time to wait for a container that does not answer
 * yet. known_hosts has the keys under the name CONTAINER_NAME, and under
 * "[*]:PORT" for each port at which nobody but containers may answer.
 *
 * To anywhere else the image's own client connects, if there is one.
 */

#include "includes.h"

#include <sys/types.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "xmalloc.h"
#include "log.h"
#include "misc.h"
#include "sshkey.h"
#include "hostfile.h"
#include "ssh.h"
#include "readconf.h"
#include "sshconnect.h"
#include "kex.h"
#include "myproposal.h"
#include "container.h"

#define CONTAINER_KNOWN_HOSTS	"/opt/oci-hooks/ssh/known_hosts"
#define CONTAINER_HOSTS		"/opt/oci-hooks/ssh/hosts"	/* of its job */
#define CONTAINER_NAME		"oci-hooks"
#define IMAGE_CLIENT		"/opt/oci-hooks/ssh/bin/ssh.image"
#define IMAGE_CLIENT_RUNS	"OCI_HOOKS_SSH_IMAGE_CLIENT"	/* PID DEPTH */
#define MAX_DEPTH	4	/* of clients that start clients, as -J does */
#define MAX_COMMAND		131071	/* Linux's longest argument of a program */

#define OTHERS_WAIT		10	/* seconds for names of no host of the job */
#define SILENCE			3	/* seconds until it says what it waits for */

static int own;			/* the user is one of the user's own names */
static int pinned;		/* nobody but a container may answer */
static char *key;		/* the user's key for containers */
static unsigned int wait_seconds;
static double deadline;		/* of monotime_double(); 0: no wait */
static double notice_time;	/* of monotime_double(); 0: no notice, or done */
static char *notices[2];	/* without an address of the host, and with one */
static int has_address;

static int has_alarm;
static char *late;		/* what to say when the alarm comes */

static void
give_notice(void)
{
	const char *text = notices[has_address];

	notice_time = 0;
	(void)write(STDERR_FILENO, text, strlen(text));
}

/* Nothing else interrupts a resolver, or a server that falls silent */
static void
on_alarm(int sig)
{
	int saved = errno;

	(void)sig;
	if (notice_time != 0) {
		give_notice();
		alarm(wait_seconds + 1 - SILENCE);
		errno = saved;
		return;
	}
	(void)write(STDERR_FILENO, late, strlen(late));
	ssh_kill_proxy_command();
	_exit(255);
}

static struct hostkeys *
load_keys(const char *name)
{
	struct hostkeys *keys = init_hostkeys();

	load_hostkeys(keys, name, CONTAINER_KNOWN_HOSTS, 0);
	return keys;
}

static int
is_pinned_port(const char *host, int port)
{
	struct hostkeys *keys;
	char *name;
	int found;

	xasprintf(&name, "[%s]:%d", host, port);
	lowercase(name);
	keys = load_keys(name);
	found = keys->num_entries > 0;
	free_hostkeys(keys);
	free(name);
	return found;
}

/* The client may be a script that calls ssh, or this program itself */
static void
run_image_client(char **argv)
{
	const char *runs = getenv(IMAGE_CLIENT_RUNS);
	char now[64];
	long pid = 0;
	int depth = 0;

	if (runs != NULL)
		(void)sscanf(runs, "%ld %d", &pid, &depth);
	if (access(IMAGE_CLIENT, X_OK) != 0 || pid == (long)getpid() ||
	    depth >= MAX_DEPTH)
		return;
	snprintf(now, sizeof(now), "%ld %d", (long)getpid(), depth + 1);
	setenv(IMAGE_CLIENT_RUNS, now, 1);
	ssh_signal(SIGPIPE, SIG_DFL);
	execv(IMAGE_CLIENT, argv);
	debug("%s: %s", IMAGE_CLIENT, strerror(errno));
}

/* Read the configuration; 1 if the user's containers know `user` */
static int
read_own(Options *containers, struct passwd *pw, const char *host,
    const char *user)
{
	if (user != NULL)
		containers->user = xstrdup(user);
	return read_config_file(CONTAINER_CONFIG, pw, host, host, "",
	    containers, 0, NULL) && containers->num_identity_files > 0;
}

int
container_is_own_name(struct passwd *pw, const char *host, const char *user)
{
	Options containers;
	int own_name;

	initialize_options(&containers);
	own_name = read_own(&containers, pw, host, user);
	free_options(&containers);
	return own_name;
}

/*
 * Decide what kind of connection this is, by what the command line says. Does
 * not return where it is one for the image's own client.
 */
void
container_decide(Options *options, struct passwd *pw, const char *host,
    size_t command_length, char **argv)
{
	Options containers;
	const char *user = options->user;

	/* A name with an expansion may become one's own later */
	if (user != NULL && strpbrk(user, "%$") != NULL)
		user = NULL;
	initialize_options(&containers);
	containers.port = options->port;
	if (read_own(&containers, pw, host, user)) {
		own = 1;
		key = xstrdup(containers.identity_files[0]);
	}
	pinned = own && is_pinned_port(host, containers.port);
	if (!pinned && (!own || containers.port == SSH_DEFAULT_PORT))
		run_image_client(argv);
	if (pinned) {
		wait_seconds = (unsigned int)MAXIMUM(
		    containers.connection_timeout, 0);
		if (wait_seconds > 0)
			options->connection_attempts = 1;
		if (command_length > MAX_COMMAND)
			fatal("the command has %zu bytes, which are more than "
			    "%d", command_length, MAX_COMMAND);
		/* Containers take one key; the host key's kind is as it is */
		while (options->num_identity_files > 0) {
			free(options->identity_files[
			    --options->num_identity_files]);
		}
		options->identities_only = 1;
		if (options->user != NULL && containers.user != NULL &&
		    strcmp(options->user, containers.user) != 0) {
			free(options->user);
			options->user = xstrdup(containers.user);
		}
		free(options->hostkeyalgorithms);
		options->hostkeyalgorithms = NULL;
	}
	/* The user's file, or that of -F, may be for several versions of ssh */
	if (own && containers.port != SSH_DEFAULT_PORT &&
	    options->ignored_unknown == NULL)
		options->ignored_unknown = xstrdup("*");
	free_options(&containers);
}

int
container_is_pinned(void)
{
	return pinned;
}

struct passwd *
container_passwd(void)
{
	static struct passwd made;
	const char *home = getenv("HOME");

	xasprintf(&made.pw_name, "uid%lu", (u_long)getuid());
	made.pw_passwd = made.pw_gecos = "";
	made.pw_uid = getuid();
	made.pw_gid = getgid();
	made.pw_dir = xstrdup(home != NULL && *home == '/' ? home : "/");
	made.pw_shell = "/bin/sh";
	return &made;
}

/* Tell whether libcrypto uses instructions of the processor for AES and GHASH:
 * AES-NI and PCLMULQDQ as in OPENSSL_ia32cap(3), or AES and PMULL */
static int
has_aes(void)
{
	const char *settings = OPENSSL_info(OPENSSL_INFO_CPU_SETTINGS);
	unsigned long long bits;

	if (settings == NULL)
		return 0;
	if (sscanf(settings, "OPENSSL_ia32cap=%llx", &bits) == 1)
		return (bits >> 57 & bits >> 33 & 1) != 0;
	if (sscanf(settings, "OPENSSL_armcap=%llx", &bits) == 1)
		return (bits >> 2 & bits >> 5 & 1) != 0;
	return 0;
}

void
container_finish(Options *options)
{
	if (pinned) {
		options->add_keys_to_agent = 0;
		/* The fastest, where both processors have instructions for
		 * it: a container whose processor has none does not offer it */
		if (has_aes() &&
		    strcmp(options->ciphers, KEX_CLIENT_ENCRYPT) == 0) {
			free(options->ciphers);
			options->ciphers = kex_names_cat(
			    "aes256-gcm@openssh.com", KEX_CLIENT_ENCRYPT);
		}
	/* At another port the user's own keys come first, also the defaults */
	} else if (own)
		add_identity_file(options, NULL, key, 0);
}

/* One of the two may have a domain that the other lacks */
static int
is_same_host(const char *a, const char *b)
{
	for (; *a != '\0' && tolower((u_char)*a) == tolower((u_char)*b); a++)
		b++;
	return (*a == '\0' || *a == '.') && (*b == '\0' || *b == '.');
}

/* Tell whether it may be a host of the container's job, as any address may */
static int
may_be_of_job(const char *host)
{
	struct in6_addr address;
	FILE *f;
	char *line = NULL;
	size_t size = 0;
	int found = 0;

	if (inet_pton(AF_INET, host, &address) == 1 ||
	    inet_pton(AF_INET6, host, &address) == 1 ||
	    (f = fopen(CONTAINER_HOSTS, "r")) == NULL)
		return 1;
	while (!found && getline(&line, &size, f) != -1) {
		line[strcspn(line, "\n")] = '\0';
		found = is_same_host(host, line);
	}
	free(line);
	fclose(f);
	return found;
}

void
container_begin(const char *host, int port)
{
	const char *others_text = "";
	unsigned int others;

	if (wait_seconds == 0)
		return;
	if (!may_be_of_job(host)) {
		wait_seconds = MINIMUM(wait_seconds, OTHERS_WAIT);
		others_text = ", which is not a host of this job";
	}
	deadline = monotime_double() + wait_seconds;
	xasprintf(&notices[0], "ssh: waiting up to %u s for an address of host "
	    "%s%s\r\n", wait_seconds, host, others_text);
	xasprintf(&notices[1], "ssh: waiting up to %u s for an answer from "
	    "host %s port %d%s\r\n", wait_seconds, host, port, others_text);
	if (wait_seconds > SILENCE && log_level_get() >= SYSLOG_LEVEL_INFO)
		notice_time = monotime_double() + SILENCE;
	xasprintf(&late, "ssh: connect to host %s port %d: no answer "
	    "(tried for %u s)\r\n", host, port, wait_seconds);
	if ((others = alarm(0)) > 0) {
		alarm(others);	/* of who called this program */
		return;
	}
	ssh_signal(SIGALRM, on_alarm);
	alarm(notice_time != 0 ? SILENCE : wait_seconds + 1);
	has_alarm = 1;
}

void
container_end(void)
{
	if (has_alarm)
		alarm(0);
	has_alarm = 0;
}

int
container_check_host_key(const char *host, int port, struct sshkey *key)
{
	struct hostkeys *keys;
	int known;

	if (!own)
		return 0;
	keys = load_keys(CONTAINER_NAME);
	if (keys->num_entries == 0)
		fatal("%s has no host key of your containers",
		    CONTAINER_KNOWN_HOSTS);
	known = check_key_in_hostkeys(keys, key, NULL) == HOST_OK;
	free_hostkeys(keys);
	if (known)
		return 1;
	if (!pinned)
		return 0;
	error("%s port %d: not your container, or one that started before "
	    "your keys changed", host, port);
	return -1;
}

int
container_may_wait(void)
{
	return deadline != 0 && monotime_double() < deadline;
}

int
container_wait(void)
{
	static double pause_ms = 50;
	double left_ms;

	if (!container_may_wait())
		return 0;
	/* Without an alarm of its own */
	if (!has_alarm && notice_time != 0 && monotime_double() >= notice_time)
		give_notice();
	left_ms = (deadline - monotime_double()) * 1000 + 1;
	usleep((useconds_t)(1000 * MAXIMUM(MINIMUM(pause_ms, left_ms), 0)));
	pause_ms = MINIMUM(2 * pause_ms, 1000);
	return 1;
}

void
container_limit(int *timeout_ms, int is_connected)
{
	double left = (deadline - monotime_double()) * 1000;

	if (deadline == 0)
		return;
	has_address = 1;
	left = MAXIMUM(left, 1);
	if (is_connected || *timeout_ms <= 0 || *timeout_ms > left)
		*timeout_ms = (int)left;
}

const char *
container_waited(void)
{
	static char text[64];

	if (deadline != 0)
		snprintf(text, sizeof(text), " (tried for %u s)", wait_seconds);
	return text;
}
