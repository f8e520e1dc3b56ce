/* TLS by OpenSSL. A thread looks each second whether the files were replaced; new ones are used once they are consistent.
 * The loop never waits for a file: one on a disk or network that hangs keeps only that thread waiting. */

#define _GNU_SOURCE
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

enum {
    FILES = 3,
    MOST_READ = 1 << 17, /* bytes that one call of `tls_read` takes from the socket, whatever they are */
    MOST_CONTROLS = 32,  /* messages of TLS itself that a peer may send without data between them */
    LOOK_SECONDS = 1,    /* between two looks at the files */
    LAST_SECONDS = 1     /* that the end waits for a look */
};

typedef struct {
    int64_t seconds, nanoseconds, size, number;
} file_stamp;

struct tls_context {
    char *paths[FILES]; /* certificate, key, authorities or NULL */
    file_stamp stamps[FILES];
    pthread_mutex_t lock; /* of the context, which the thread replaces, and of what ends the thread */
    pthread_cond_t ends;
    int ending;
    pthread_t thread;
    SSL_CTX *context;
};

/* A socket as OpenSSL reads it. It takes records until there is data, so a peer that sends others, such as demands for new
 * keys, would keep it for ever: of them there may be few, and of all bytes some at a time. */
typedef struct {
    int fd;
    int agreed; /* whether the handshake is done */
    int controls;
    size_t left;
} tls_socket;

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

/* What a connection speaks, as ALPN writes it, which the application's data of its SSL is. */
static const char H2[] = "\2h2", HTTP1[] = "\10http/1.1";

static int choose(SSL *tls, const unsigned char **chosen, unsigned char *length, const unsigned char *offered,
                  unsigned int offered_length, void *data)
{
    const unsigned char *wanted = (const unsigned char *)SSL_get_app_data(tls);
    (void)data;
    return SSL_select_next_proto((unsigned char **)chosen, length, wanted, wanted[0] + 1u, offered, offered_length) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Whether the files are regular ones: another kind, such as a pipe, could keep who reads it waiting for ever. */
static int are_regular(const tls_context *files)
{
    struct stat found;
    for (int i = 0; i < FILES; i++)
        if (files->paths[i] && (stat(files->paths[i], &found) || !S_ISREG(found.st_mode))) return 0;
    return 1;
}

static SSL_CTX *load(const tls_context *files, char *error, size_t size)
{
    const char *what = "The certificate";
    if (!are_regular(files)) {
        snprintf(error, size, "The files of TLS cannot be used: one is not there, or is no regular file");
        return NULL;
    }
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

static void tls_delete(tls_context *context)
{
    for (int i = 0; i < FILES; i++) free(context->paths[i]);
    SSL_CTX_free(context->context);
    pthread_cond_destroy(&context->ends);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

/* Load the files if they were replaced, or could not be used the last time: whether they can be used. The second time that
 * they cannot it is said, since whoever replaces them may be halfway through. */
static int look(tls_context *context, int usable)
{
    file_stamp stamps[FILES];
    char error[200];
    for (int i = 0; i < FILES; i++) stamps[i] = stamp(context->paths[i]);
    int changed = memcmp(stamps, context->stamps, sizeof stamps) != 0;
    if (!changed && usable > 0) return 1;
    memcpy(context->stamps, stamps, sizeof stamps);
    SSL_CTX *loaded = load(context, error, sizeof error);
    if (!loaded) {
        if (usable == 0) fprintf(stderr, "kanserve: %s; the old one stays in use.\n", error);
        return usable - 1;
    }
    pthread_mutex_lock(&context->lock);
    SSL_CTX *before = context->context;
    context->context = loaded;
    pthread_mutex_unlock(&context->lock);
    SSL_CTX_free(before); /* open connections have references of their own */
    return 1;
}

static void *watch(void *argument)
{
    tls_context *context = argument;
    struct timespec next;
    pthread_setname_np(pthread_self(), "kanserve-keys");
    for (int usable = 1;;) {
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += LOOK_SECONDS;
        pthread_mutex_lock(&context->lock);
        while (!context->ending && !pthread_cond_timedwait(&context->ends, &context->lock, &next)) continue;
        int ending = context->ending;
        pthread_mutex_unlock(&context->lock);
        if (ending) return NULL;
        usable = look(context, usable);
    }
}

static int begin_watching(tls_context *context)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&context->thread, NULL, watch, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* Where the thread waits for a file that hangs, its memory stays too. */
static void tls_free(tls_context *context)
{
    struct timespec until;
    pthread_mutex_lock(&context->lock);
    context->ending = 1;
    pthread_cond_signal(&context->ends);
    pthread_mutex_unlock(&context->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LAST_SECONDS;
    if (pthread_timedjoin_np(context->thread, NULL, &until) == 0)
        tls_delete(context);
    else
        pthread_detach(context->thread);
}

static tls_context *tls_new(const char *certificate, const char *key, const char *authorities, char *error, size_t size)
{
    const char *paths[FILES] = {certificate, key, authorities};
    pthread_condattr_t attributes;
    tls_context *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    pthread_mutex_init(&made->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&made->ends, &attributes);
    pthread_condattr_destroy(&attributes);
    for (int i = 0; i < FILES; i++) {
        made->paths[i] = paths[i] ? strdup(paths[i]) : NULL;
        made->stamps[i] = stamp(paths[i]);
    }
    made->context = load(made, error, size);
    if (made->context && begin_watching(made) == 0) return made;
    if (made->context) snprintf(error, size, "No thread can be started to read the files of TLS");
    tls_delete(made);
    return NULL;
}

static int socket_read(BIO *bio, char *to, int length)
{
    tls_socket *from = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (from->controls > MOST_CONTROLS) return -1;
    if ((size_t)length > from->left) length = (int)from->left;
    ssize_t got = length ? recv(from->fd, to, (size_t)length, 0) : -1;
    if (got > 0) from->left -= (size_t)got;
    if (got < 0 && (!length || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) BIO_set_retry_read(bio);
    return (int)got;
}

static int socket_write(BIO *bio, const char *data, int length)
{
    const tls_socket *to = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(to->fd, data, (size_t)length, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) BIO_set_retry_write(bio);
    return (int)sent;
}

static long socket_control(BIO *bio, int command, long number, void *data)
{
    (void)bio;
    (void)number;
    (void)data;
    return command == BIO_CTRL_FLUSH;
}

static int socket_end(BIO *bio)
{
    free(BIO_get_data(bio));
    return 1;
}

static BIO_METHOD *socket_method;

static void make_socket_method(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kanserve socket");
    if (!made || !BIO_meth_set_read(made, socket_read) || !BIO_meth_set_write(made, socket_write) ||
        !BIO_meth_set_ctrl(made, socket_control) || !BIO_meth_set_destroy(made, socket_end))
        return;
    socket_method = made;
}

static BIO *socket_new(int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_socket_method);
    tls_socket *made = calloc(1, sizeof *made);
    BIO *bio = made && socket_method ? BIO_new(socket_method) : NULL;
    if (!bio) {
        free(made);
        return NULL;
    }
    *made = (tls_socket){.fd = fd, .left = MOST_READ};
    BIO_set_data(bio, made);
    BIO_set_init(bio, 1);
    return bio;
}

static tls_socket *socket_of(const SSL *tls)
{
    return BIO_get_data(SSL_get_rbio(tls));
}

/* Count what a peer sends of TLS itself once TLS is agreed on. */
static void on_message(int written, int version, int type, const void *data, size_t length, SSL *tls, void *argument)
{
    (void)version;
    (void)data;
    (void)length;
    (void)argument;
    tls_socket *from = socket_of(tls);
    if (!written && from->agreed && (type == SSL3_RT_HANDSHAKE || type == SSL3_RT_ALERT)) from->controls++;
}

static void *tls_accept(tls_context *context, int fd, int http1)
{
    pthread_mutex_lock(&context->lock);
    SSL *tls = SSL_new(context->context);
    pthread_mutex_unlock(&context->lock);
    BIO *bio = tls ? socket_new(fd) : NULL;
    if (!bio || SSL_set_app_data(tls, (char *)(http1 ? HTTP1 : H2)) != 1) {
        BIO_free(bio);
        SSL_free(tls);
        return NULL;
    }
    SSL_set_bio(tls, bio, bio);
    SSL_set_msg_callback(tls, on_message);
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
    socket_of(tls)->left = MOST_READ;
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
        socket_of(tls)->agreed = 1;
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
    tls_socket *from = socket_of(tls);
    ERR_clear_error();
    from->left = MOST_READ;
    long got = outcome(tls, SSL_read(tls, to, (int)length), wants_write);
    if (got > 0) from->controls = 0;
    return got < 0 && from->controls > MOST_CONTROLS ? TLS_FLOODED : got;
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
