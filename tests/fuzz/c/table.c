/* The listener's table of connections (svr-preauth.c) under any order of events: clients that come, send, go on and go,
 * processes that end or cannot be started, and pauses. The model is tests/role_dropbear/preauth.c, which compares all
 * counts with the connections after each step. The bytes of an input decide in place of chance. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define BEGINNING_MS 1000000

static const uint8_t *input;
static size_t left;

static int next_number(void) {
	return left > 0 ? (left--, *input++) : 1;
}

#define main run_floods
#include "../../role_dropbear/preauth.c"
#undef main

/* Each byte is a choice: see at_random() */
int rand(void) {
	return next_number();
}

#define MOST_PROCESSES 5
#define EACH 4 /* clients of each address */
#define LONGEST_PAUSE_MS 4096
#define MOST_BYTES 640 /* a longer one does the same for longer */

/* The next input begins as the first one did, so that what fails does so alone */
static void end_all(void) {
	struct preauth_conn *conn;
	int i;

	for (conn = conns; conn < conns + MAX_CONNS; conn++) {
		if (conn->state != FREE) {
			close(conn->fd);
		}
	}
	for (i = 0; i < num_clients; i++) {
		end_process(&clients[i]);
		if (clients[i].sock >= 0) {
			close(clients[i].sock);
		}
	}
	memset(conns, 0, sizeof(conns));
	memset(sources, 0, sizeof(sources));
	memset(hosts, 0, sizeof(hosts));
	memset(num_in, 0, sizeof(num_in));
	memset(num_due, 0, sizeof(num_due));
	memset(emptied, 0, sizeof(emptied));
	memset(accepted, 0, sizeof(accepted));
	memset(lengths, 0, sizeof(lengths));
	num_sources = num_conns = num_processes = num_started = 0;
	num_clients = 0;
	last_sweep = last_report = last_failure = last_place = accept_again = num_accepted = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
	char words[16];

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	snprintf(words, sizeof(words), "%d,%u", DOOR, getuid());
	door_parse(words);
	kind = "any";
	is_random = 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const int listening[] = {PORT, DOOR};
	static const char *const addresses[] = {"door", "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "fd00:0:0:1::1"};
	size_t i;

	if (size > MOST_BYTES) {
		return 0;
	}
	clock_ms = BEGINNING_MS;
	input = data;
	left = size;
	wanted_processes = 1 + (unsigned int)next_number() % MOST_PROCESSES;
	preauth_init(listening, 2, 3);
	for (i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		add_clients(addresses[i], EACH, i == 1);
	}
	while (left > 0) {
		clock_ms += (unsigned long)next_number() * LONGEST_PAUSE_MS / UINT8_MAX;
		for (i = 0; i < EACH; i++) { /* the user's, who comes now and then */
			struct client *user = &clients[EACH + i];
			if (user->state != QUEUED && user->state != OPEN && next_number() % 2 == 0) {
				user->steps = 0;
				come(user);
			}
		}
		pass_round();
	}
	end_all();
	return 0;
}
