/* A client of TLS that demands new keys again and again: key_updates PORT COUNT [PROTOCOL], h2 or http/1.1. Prints how
 * many it could demand. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **arguments)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(count > 2 ? arguments[1] : "0"))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), sent = 0, most = count > 2 ? atoi(arguments[2]) : 0;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *tls = SSL_new(context);
    unsigned char protocols[20];
    const char *protocol = count > 3 ? arguments[3] : "h2";
    int length = snprintf((char *)protocols, sizeof protocols, "%c%s", (int)strlen(protocol), protocol);
    signal(SIGPIPE, SIG_IGN);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SSL_set_alpn_protos(tls, protocols, (unsigned)length);
    SSL_set_min_proto_version(tls, TLS1_3_VERSION);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) || !SSL_set_fd(tls, fd) || SSL_connect(tls) != 1) return 1;
    while (sent < most && SSL_key_update(tls, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(tls) == 1) sent++;
    printf("%d\n", sent);
    return 0;
}
