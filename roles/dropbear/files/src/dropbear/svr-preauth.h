#ifndef DROPBEAR_SVR_PREAUTH_H_
#define DROPBEAR_SVR_PREAUTH_H_

#include "includes.h"

/* The listener's connections that have not logged in. Until its client has sent
 * something, a connection is a socket of the listener's; then it gets a process.
 * Nothing here ends the listener. */

struct preauth_conn;

/* -U: how many processes there may be at most for them; ends the server when it is no number */
void preauth_parse(const char *processes);
/* spare_fd is above all descriptors that the listener has already */
void preauth_init(const int *listensocks, size_t count, unsigned int spare_fd);
/* Add what to wait for. Returns the longest time to wait, or NULL */
struct timeval *preauth_select(fd_set *fds, int *maxfd);
/* After select(): look at what has been sent, and accept who waits */
void preauth_update(const fd_set *fds);
/* A connection that is to get a process now, or NULL */
struct preauth_conn *preauth_next(void);
int preauth_sock(const struct preauth_conn *conn);
/* Its process has the end childpipe[1], which it closes when it ends or has logged in */
void preauth_started(struct preauth_conn *conn, pid_t pid, const int *childpipe);
/* fork() has failed, with errno: the processes that there may be are used up. Others give
 * way, and conn waits. Closes the pipe */
void preauth_not_started(struct preauth_conn *conn, const int *childpipe);
void preauth_drop(struct preauth_conn *conn);
/* For a new process that does not execute a program */
void preauth_close_others(const struct preauth_conn *conn);

/* In the process of a connection: tell the listener that a step of the login is done, and
 * the client's turn */
void preauth_waits_for_client(void);
/* Likewise: it has logged in, before its end of the pipe is closed */
void preauth_logged_in(void);

#endif
