/* Memory for buffers: see packet-buffer.h. */

#include "includes.h"
#include "dbutil.h"
#include "packet-buffer.h"

#define PACKET_BUF_MIN 16384
#define PACKET_BUF_SIZE (36800 - sizeof(buffer)) /* with its header in 9 pages */

static buffer *spare;
static int keeps;

void packet_buffer_keep(void) {
	/* The allocator of a fuzzer frees all that it gave */
	keeps = !DROPBEAR_TRACKING_MALLOC;
}

static int is_packet_size(unsigned int size) {
	return size >= PACKET_BUF_MIN && size <= PACKET_BUF_SIZE;
}

static size_t alloc_size(unsigned int size) {
	return sizeof(buffer) + (is_packet_size(size) ? PACKET_BUF_SIZE : size);
}

buffer *packet_buffer_new(unsigned int size) {
	buffer *buf = spare;

	if (buf == NULL || !is_packet_size(size)) {
		return m_malloc(alloc_size(size));
	}
	spare = NULL;
	memset(buf, 0x0, sizeof(buffer) + size);
	return buf;
}

buffer *packet_buffer_resize(buffer *buf, unsigned int size) {
	buffer *larger;

	if (!is_packet_size(size) || is_packet_size(buf->size)) {
		return m_realloc(buf, alloc_size(size));
	}
	/* A packet that is longer than its first bytes: these are copied */
	larger = packet_buffer_new(size);
	memcpy(larger, buf, sizeof(buffer) + MIN(size, buf->size));
	packet_buffer_free(buf);
	return larger;
}

void packet_buffer_free(buffer *buf) {
	if (buf != NULL && keeps && spare == NULL && is_packet_size(buf->size)) {
		spare = buf;
	} else {
		m_free(buf);
	}
}
