/* X25519, Ed25519, chacha20-poly1305@openssh.com and aes256-gcm@openssh.com by
 * libsodium, in place of curve25519.c, chachapoly.c and gcm.c. Only with
 * DROPBEAR_LIBSODIUM. */

#include "includes.h"
#include "algo.h"
#include "dbutil.h"
#include "dbrandom.h"
#include "curve25519.h"
#include "chachapoly.h"
#include "gcm.h"
#include "crypto_desc.h"

#if DROPBEAR_LIBSODIUM

#include <sodium.h>

/* libsodium draws random numbers only for sodium_malloc(), which is not used
 * here. Its own source would call abort() without getrandom() and
 * /dev/urandom, where seedrandom() exits with a message. */
static const char *random_name(void) {
	return "dropbear";
}

static void random_buf(void * const buf, const size_t len) {
	genrandom(buf, (unsigned int)len);
}

static uint32_t random_uint32(void) {
	uint32_t r;
	genrandom((unsigned char*)&r, sizeof(r));
	return r;
}

static randombytes_implementation random_source = {
	.implementation_name = random_name,
	.random = random_uint32,
	.buf = random_buf,
};

/* Without sodium_init() libsodium would use its portable code */
void dropbear_sodium_init() {
	seedrandom();
	if (randombytes_set_implementation(&random_source) != 0 || sodium_init() < 0) {
		dropbear_exit("libsodium cannot be initialised");
	}
}

#if DROPBEAR_CURVE25519_DEP
/* q is zero if p is a point of small order: kexcurve25519_derive() refuses that */
void dropbear_curve25519_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p) {
	static const unsigned char basepoint[crypto_scalarmult_curve25519_BYTES] = {9};
	int ret;

	if (memcmp(p, basepoint, sizeof(basepoint)) == 0) {
		ret = crypto_scalarmult_curve25519_base(q, n); /* precomputed multiples */
	} else {
		ret = crypto_scalarmult_curve25519(q, n, p);
	}
	if (ret != 0) {
		m_burn(q, crypto_scalarmult_curve25519_BYTES);
	}
}
#endif /* DROPBEAR_CURVE25519_DEP */

#if DROPBEAR_ED25519
void dropbear_ed25519_make_key(unsigned char *pk, unsigned char *sk) {
	unsigned char key[crypto_sign_ed25519_SECRETKEYBYTES];

	genrandom(sk, crypto_sign_ed25519_SEEDBYTES);
	crypto_sign_ed25519_seed_keypair(pk, key, sk);
	m_burn(key, sizeof(key));
}

void dropbear_ed25519_sign(const unsigned char *m, unsigned long mlen,
			  unsigned char *s, unsigned long *slen,
			  const unsigned char *sk, const unsigned char *pk) {
	/* libsodium's secret key: the seed, and the public key */
	unsigned char key[crypto_sign_ed25519_SECRETKEYBYTES];

	memcpy(key, sk, crypto_sign_ed25519_SEEDBYTES);
	memcpy(key + crypto_sign_ed25519_SEEDBYTES, pk, crypto_sign_ed25519_PUBLICKEYBYTES);
	crypto_sign_ed25519_detached(s, NULL, m, mlen, key);
	m_burn(key, sizeof(key));
	*slen = crypto_sign_ed25519_BYTES;
}

#if DROPBEAR_SIGNKEY_VERIFY
int dropbear_ed25519_verify(const unsigned char *m, unsigned long mlen,
			    const unsigned char *s, unsigned long slen,
			    const unsigned char *pk) {
	if (slen < crypto_sign_ed25519_BYTES) {
		return -1;
	}
	return crypto_sign_ed25519_verify_detached(s, m, mlen, pk);
}
#endif /* DROPBEAR_SIGNKEY_VERIFY */
#endif /* DROPBEAR_ED25519 */

#if DROPBEAR_CHACHA20POLY1305
#define KEY_LEN crypto_stream_chacha20_KEYBYTES
#define TAG_LEN crypto_onetimeauth_poly1305_BYTES
#define BLOCKSIZE 8

static const struct ltc_cipher_descriptor dummy = {.name = NULL};

static const struct dropbear_hash dropbear_chachapoly_mac =
	{NULL, KEY_LEN, TAG_LEN};

const struct dropbear_cipher dropbear_chachapoly =
	{&dummy, KEY_LEN*2, BLOCKSIZE};

/* OpenSSH's PROTOCOL.chacha20poly1305: the first key encrypts the payload, with
 * its block 0 as Poly1305's key, the second one the packet's length. The nonce
 * is the sequence number, of 64 bits, and so is the block counter: the original
 * ChaCha20, not RFC 8439's. */
static int dropbear_chachapoly_start(int UNUSED(cipher), const unsigned char* UNUSED(IV),
			const unsigned char *key, int keylen,
			int UNUSED(num_rounds), dropbear_chachapoly_state *state) {
	if (keylen != KEY_LEN*2) {
		return CRYPT_ERROR;
	}
	memcpy(state->key, key, KEY_LEN);
	memcpy(state->header_key, key + KEY_LEN, KEY_LEN);
	return CRYPT_OK;
}

static int dropbear_chachapoly_crypt(unsigned int seq,
			const unsigned char *in, unsigned char *out,
			unsigned long len, unsigned long taglen,
			dropbear_chachapoly_state *state, int direction) {
	unsigned char nonce[crypto_stream_chacha20_NONCEBYTES];
	unsigned char poly_key[crypto_onetimeauth_poly1305_KEYBYTES];

	if (len < 4 || taglen != TAG_LEN) {
		return CRYPT_ERROR;
	}

	STORE64H((uint64_t)seq, nonce);
	crypto_stream_chacha20(poly_key, sizeof(poly_key), nonce, state->key);
	if (direction == LTC_DECRYPT
		&& crypto_onetimeauth_poly1305_verify(in + len, in, len, poly_key) != 0) {
		return CRYPT_ERROR;
	}
	crypto_stream_chacha20_xor(out, in, 4, nonce, state->header_key);
	crypto_stream_chacha20_xor_ic(out + 4, in + 4, len - 4, nonce, 1, state->key);
	if (direction == LTC_ENCRYPT) {
		crypto_onetimeauth_poly1305(out + len, out, len, poly_key);
	}
	m_burn(poly_key, sizeof(poly_key));
	return CRYPT_OK;
}

static int dropbear_chachapoly_getlength(unsigned int seq,
			const unsigned char *in, unsigned int *outlen,
			unsigned long len, dropbear_chachapoly_state *state) {
	unsigned char nonce[crypto_stream_chacha20_NONCEBYTES], buf[4];

	if (len < sizeof(buf)) {
		return CRYPT_ERROR;
	}
	STORE64H((uint64_t)seq, nonce);
	crypto_stream_chacha20_xor(buf, in, sizeof(buf), nonce, state->header_key);
	LOAD32H(*outlen, buf);
	return CRYPT_OK;
}

const struct dropbear_cipher_mode dropbear_mode_chachapoly =
	{(void *)dropbear_chachapoly_start, NULL, NULL,
	 (void *)dropbear_chachapoly_crypt,
	 (void *)dropbear_chachapoly_getlength, &dropbear_chachapoly_mac};
#endif /* DROPBEAR_CHACHA20POLY1305 */

#if DROPBEAR_ENABLE_GCM_MODE
#define GCM_TAG_LEN crypto_aead_aes256gcm_ABYTES

static const struct dropbear_hash dropbear_ghash =
	{NULL, 0, GCM_TAG_LEN};

static int dropbear_gcm_start(int UNUSED(cipher), const unsigned char *IV,
			const unsigned char *key, int keylen,
			int UNUSED(num_rounds), dropbear_gcm_state *state) {
	if (keylen != crypto_aead_aes256gcm_KEYBYTES
		|| !crypto_aead_aes256gcm_is_available()) {
		return CRYPT_ERROR;
	}
	crypto_aead_aes256gcm_beforenm(&state->gcm, key);
	memcpy(state->iv, IV, GCM_NONCE_LEN);
	return CRYPT_OK;
}

/* RFC 5647: the packet's length is authenticated and not encrypted. The nonce's
 * last eight bytes count the packets. */
static int dropbear_gcm_crypt(unsigned int UNUSED(seq),
			const unsigned char *in, unsigned char *out,
			unsigned long len, unsigned long taglen,
			dropbear_gcm_state *state, int direction) {
	int i;

	if (len < 4 || taglen != GCM_TAG_LEN) {
		return CRYPT_ERROR;
	}

	if (direction == LTC_ENCRYPT) {
		crypto_aead_aes256gcm_encrypt_detached_afternm(out + 4, out + len, NULL,
			in + 4, len - 4, in, 4, NULL, state->iv, &state->gcm);
	} else if (crypto_aead_aes256gcm_decrypt_detached_afternm(out + 4, NULL,
			in + 4, len - 4, in + len, in, 4, state->iv, &state->gcm) != 0) {
		return CRYPT_ERROR;
	}

	for (i = GCM_NONCE_LEN; i > GCM_IVFIX_LEN && ++state->iv[--i] == 0; );
	return CRYPT_OK;
}

static int dropbear_gcm_getlength(unsigned int UNUSED(seq),
			const unsigned char *in, unsigned int *outlen,
			unsigned long len, dropbear_gcm_state* UNUSED(state)) {
	if (len < 4) {
		return CRYPT_ERROR;
	}
	LOAD32H(*outlen, in);
	return CRYPT_OK;
}

const struct dropbear_cipher_mode dropbear_mode_gcm =
	{(void *)dropbear_gcm_start, NULL, NULL,
	 (void *)dropbear_gcm_crypt,
	 (void *)dropbear_gcm_getlength, &dropbear_ghash};
#endif /* DROPBEAR_ENABLE_GCM_MODE */

#endif /* DROPBEAR_LIBSODIUM */
