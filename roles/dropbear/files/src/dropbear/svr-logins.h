#ifndef DROPBEAR_SVR_LOGINS_H_
#define DROPBEAR_SVR_LOGINS_H_

#include "includes.h"

/* -L: lines for the system log of the server's host, when a session begins and
 * when it ends, and at most once a minute how many logins were refused. Nobody
 * can trace the processes that send them, and each waits for 50 ms at most.
 * Without -L nothing here does anything. */

struct exitinfo;

/* A session, or all forwardings of a connection */
struct login {
	const char *kind; /* NULL where it has not begun */
	uint32_t id;
	struct timespec begun;
};

/* Read the argument of -L, socket,text[,directory], which is changed later, or end the
 * server */
void logins_parse(char *arg);
int logins_are_given(void);

/* In the listener, before it waits at its gate, while nothing that could hinder it
 * runs. Returns in a child that nobody can trace, and serves: its parent is what
 * others see of the server, and ends with it. Where nothing is logged it returns in
 * the caller. Returns 0 where something should be */
int logins_listener(void);
/* In the listener, behind its gate. Returns 1 where it is such a child: others may
 * look at the parent from now on */
int logins_gate_is_open(void);
/* The highest of the listener's descriptors for this, -1 without any */
int logins_maxfd(void);
/* In the listener, before select(). Returns the longest time to wait, or NULL */
struct timeval *logins_report(struct timeval *timeout);
/* In the listener: a connection is dropped, whose process does not say so itself */
void logins_dropped(void);

/* In the process of a connection, before anything else */
void logins_connection(int sock);
/* The key by which the client has logged in */
void logins_key(const char *fingerprint);
/* Before the session's program runs. The command may be NULL */
void logins_begin(struct login *login, const char *kind, const char *command);
/* The exit may be unknown; it is NULL where the program could not be started */
void logins_end(struct login *login, const struct exitinfo *exit);
/* At each forwarding: the first one of the connection begins them */
void logins_forward(void);
/* At the end of the connection */
void logins_disconnected(void);

#endif
