/* Connections between containers of one user */

#ifndef CONTAINER_H
#define CONTAINER_H

#define CONTAINER_CONFIG	"/opt/oci-hooks/ssh/ssh_config"

/* Decide what kind of connection this is; may execute the image's client */
void	 container_decide(Options *, struct passwd *, const char *, size_t,
    char **);

/* Tell whether it is one of the user's own names, such as DOMAIN\name of
 * winbind: nobody else chose it, so ssh takes it as it is */
int	 container_is_own_name(struct passwd *, const char *, const char *);

/* Tell whether nobody but a container may answer */
int	 container_is_pinned(void);

/* 1: the key is the containers', 0: known_hosts decides, -1: refuse it */
int	 container_check_host_key(const char *, int, struct sshkey *);

/* An entry for who has none, as where users come from a directory service */
struct passwd *container_passwd(void);

/* What is to be set when all options have their values */
void	 container_finish(Options *);

/* Begin to wait; the process ends when it lasts too long until the end */
void	 container_begin(const char *, int);
void	 container_end(void);

/* Tell whether there is time to wait */
int	 container_may_wait(void);

/* Pause before the next attempt; 0 when there is to be none */
int	 container_wait(void);

/* Bound a timeout by what is left of the time to wait. Once connected, that is
 * the timeout: a container answers when it has started */
void	 container_limit(int *, int);

/* What an error says of the waiting; empty without any */
const char *container_waited(void);

#endif
