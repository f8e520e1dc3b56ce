/* TLS by OpenSSL. Each handshake looks whether the files were replaced; new ones are used once they are consistent. */

#define _GNU_SOURCE
#include "tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { FILES = 3 };

typedef struct {
    int64_t seconds, nanoseconds, size, number;
} file_stamp;

struct tls_context {
    char *paths[FILES]; /* certificate, key, authorities or NULL */
    file_stamp stamps[FILES];
    int64_t again; /* the second in which files that could not be used are tried again; 0: not */
    SSL_CTX *context;
};

static int64_t now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

static file_stamp stamp(const char *path)
{
    struct stat found;
    if (!path || stat(path, &found)) return (file_stamp){0, 0, 0, 0};
    return (file_stamp){found.st_mtim.tv_sec, found.st_mtim.tv_nsec, found.st_size, (int64_t)found.st_ino};
}

static int no_password(char *buffer, int size, int writing, void *data)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)data;
    return 0;
}

/* What a connection speaks, which the application's data of its SSL is. */
static const char H2[] = "h2", HTTP1[] = "http/1.1";

static int choose(SSL *tls, const unsigned char **chosen, unsigned char *length, const unsigned char *offered,
                  unsigned int offered_length, void *data)
{
    const char *wanted = SSL_get_app_data(tls);
    size_t size = strlen(wanted);
    (void)data;
    for (unsigned int at = 0; at < offered_length; at += 1u + offered[at]) {
        if (offered[at] == size && at + size < offered_length && memcmp(offered + at + 1, wanted, size) == 0) {
            *chosen = offered + at + 1;
            *length = (unsigned char)size;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *load(const tls_context *files, char *error, size_t size)
{
    const char *what = "The certificate";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context) goto failed;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(context, no_password);
    SSL_CTX_set_alpn_select_cb(context, choose, NULL);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"kanserve", 8);
    if (SSL_CTX_use_certificate_chain_file(context, files->paths[0]) != 1) goto failed;
    what = "The key";
    if (SSL_CTX_use_PrivateKey_file(context, files->paths[1], SSL_FILETYPE_PEM) != 1) goto failed;
    if (SSL_CTX_check_private_key(context) != 1) goto failed;
    if (files->paths[2]) {
        what = "The file of authorities";
        if (SSL_CTX_load_verify_file(context, files->paths[2]) != 1) goto failed;
        SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(files->paths[2]));
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    ERR_clear_error();
    return context;
failed:;
    const char *why = ERR_reason_error_string(ERR_peek_error());
    snprintf(error, size, "%s cannot be used: %s", what, why ? why : "unknown reason");
    ERR_clear_error();
    SSL_CTX_free(context);
    return NULL;
}

static void tls_free(tls_context *context)
{
    if (!context) return;
    for (int i = 0; i < FILES; i++) free(context->paths[i]);
    SSL_CTX_free(context->context);
    free(context);
}

static tls_context *tls_new(const char *certificate, const char *key, const char *authorities, char *error, size_t size)
{
    const char *paths[FILES] = {certificate, key, authorities};
    tls_context *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    for (int i = 0; i < FILES; i++) {
        made->paths[i] = paths[i] ? strdup(paths[i]) : NULL;
        made->stamps[i] = stamp(paths[i]);
    }
    if (!(made->context = load(made, error, size))) {
        tls_free(made);
        return NULL;
    }
    return made;
}

static void look(tls_context *context)
{
    file_stamp stamps[FILES];
    char error[200];
    int64_t now = now_seconds();
    for (int i = 0; i < FILES; i++) stamps[i] = stamp(context->paths[i]);
    int changed = memcmp(stamps, context->stamps, sizeof stamps) != 0;
    if (!changed && !(context->again && now >= context->again)) return;
    memcpy(context->stamps, stamps, sizeof stamps);
    SSL_CTX *loaded = load(context, error, sizeof error);
    if (!loaded) {
        if (!context->again) fprintf(stderr, "kanserve: %s; the old one stays in use.\n", error);
        context->again = now + 1;
        return;
    }
    context->again = 0;
    SSL_CTX_free(context->context); /* open connections have references of their own */
    context->context = loaded;
}

static void *tls_accept(tls_context *context, int fd, int http1)
{
    look(context);
    SSL *tls = SSL_new(context->context);
    if (!tls || SSL_set_fd(tls, fd) != 1 || SSL_set_app_data(tls, (char *)(http1 ? HTTP1 : H2)) != 1) {
        SSL_free(tls);
        return NULL;
    }
    SSL_set_accept_state(tls);
    return tls;
}

static void tls_end(void *tls)
{
    if (!tls) return;
    ERR_clear_error();
    if (SSL_is_init_finished(tls)) SSL_shutdown(tls); /* our close_notify, without waiting for the peer's */
    ERR_clear_error();
    SSL_free(tls);
}

static void add_names(X509 *certificate, byte_buffer *to)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        unsigned char *text = NULL;
        int length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (length >= 0) buffer_add_pair(to, "x509_common_name", 16, text, (size_t)length);
        OPENSSL_free(text);
    }
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS && name->type != GEN_URI) continue;
        const ASN1_STRING *value = name->d.ia5;
        const char *key = name->type == GEN_DNS ? "peer_dns" : "peer_uri";
        buffer_add_pair(to, key, 8, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    }
    GENERAL_NAMES_free(names);
}

static int tls_handshake(void *tls, int *wants_write, byte_buffer *identity)
{
    ERR_clear_error(); /* what another connection left would count as ours */
    int result = SSL_do_handshake(tls);
    if (result == 1) {
        const unsigned char *protocol;
        unsigned int length;
        SSL_get0_alpn_selected(tls, &protocol, &length);
        if (length == 0 && SSL_get_app_data(tls) == H2) return -1; /* the client did not offer it */
        X509 *certificate = SSL_get1_peer_certificate(tls);
        if (certificate) add_names(certificate, identity);
        X509_free(certificate);
        *wants_write = 0;
        return 1;
    }
    int why = SSL_get_error(tls, result);
    *wants_write = why == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static long outcome(SSL *tls, int result, int *wants_write)
{
    if (result > 0) return result;
    int why = SSL_get_error(tls, result);
    *wants_write = why == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static long tls_read(void *tls, void *to, size_t length, int *wants_write)
{
    ERR_clear_error();
    return outcome(tls, SSL_read(tls, to, (int)length), wants_write);
}

static long tls_write(void *tls, const void *from, size_t length, int *wants_write)
{
    ERR_clear_error();
    if (length > 1 << 30) length = 1 << 30;
    return outcome(tls, SSL_write(tls, from, (int)length), wants_write);
}

const tls_functions *kanserve_tls(void)
{
    static const tls_functions functions = {tls_new, tls_free, tls_accept, tls_end, tls_handshake, tls_read, tls_write};
    return &functions;
}

const char *kanserve_tls_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}
