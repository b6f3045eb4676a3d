#ifndef DROPBEAR_PACKET_BUFFER_H_
#define DROPBEAR_PACKET_BUFFER_H_

#include "buffer.h"

/* Memory of a buffer and its data. Buffers of full packets come and go with each
 * packet. A C library may give memory of that size back to the system each time,
 * as musl does, which can take half as long as encryption. So they all have one
 * size, and one of them is kept. */

/* From now on, keep one when it is freed: after the login, so that nobody else
 * makes the server hold it */
void packet_buffer_keep(void);
/* Memory of zeros for a buffer with this many bytes of data */
buffer *packet_buffer_new(unsigned int size);
/* Like realloc(3), of memory from packet_buffer_new() */
buffer *packet_buffer_resize(buffer *buf, unsigned int size);
/* buf may be NULL */
void packet_buffer_free(buffer *buf);

#endif
