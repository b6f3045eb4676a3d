#ifndef DROPBEAR_SVR_ENVIRONMENT_H_
#define DROPBEAR_SVR_ENVIRONMENT_H_

/* -J pid,start,file: sessions have the environment of the process pid, which the server
 * was started for. start is its start time in proc_pid_stat(5); file gets the variables
 * for login shells. */

/* Read the argument of -J, or end the server */
void environment_parse(const char *arg);
/* Give the calling process, which is to become a session's shell, that environment.
 * Where it cannot be read, it is the server's own. Without -J nothing is done */
void environment_set(void);

#endif
