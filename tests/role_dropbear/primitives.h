/* What Dropbear's files for Curve25519, Ed25519, chacha20-poly1305 and aes256-gcm need of its headers. With it they compile
 * without a configuration. Included under the names of these headers. */

#ifndef PRIMITIVES_H
#define PRIMITIVES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tomcrypt.h"

#define UNUSED(x) UNUSED_##x __attribute__((unused))
#define TRACE2(x)

void dropbear_exit(const char *format, ...);
void genrandom(unsigned char *buf, unsigned int len);
void seedrandom(void);
void m_burn(void *data, unsigned int len);
int constant_time_memcmp(const void *a, const void *b, size_t n);
void dropbear_sodium_init(void);

struct dropbear_hash {
	const struct ltc_hash_descriptor *hash_desc;
	unsigned long keysize;
	unsigned char hashsize;
};

struct dropbear_cipher {
	const struct ltc_cipher_descriptor *cipherdesc;
	unsigned long keysize;
	unsigned char blocksize;
};

struct dropbear_cipher_mode {
	int (*start)(int cipher, const unsigned char *iv, const unsigned char *key, int keylen, int rounds, void *state);
	int (*encrypt)(const unsigned char *in, unsigned char *out, unsigned long len, void *state);
	int (*decrypt)(const unsigned char *in, unsigned char *out, unsigned long len, void *state);
	int (*aead_crypt)(unsigned int seq, const unsigned char *in, unsigned char *out, unsigned long len,
		unsigned long taglen, void *state, int direction);
	int (*aead_getlength)(unsigned int seq, const unsigned char *in, unsigned int *outlen, unsigned long len,
		void *state);
	const struct dropbear_hash *aead_mac;
};

#endif
