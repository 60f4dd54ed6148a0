"""Both ends of a question through a proxy under test. Started by squid.rs, inside the lab's namespace.

  proxy.py origin TOKEN CERTIFICATE PORT...   says `ready`; answers on all addresses until stdin ends
  proxy.py ask TOKEN PROXY4 PROXY6 PORT CA    a question a line on stdin, fields by tab; an answer a line, in order
      get CLIENT URL | tls CLIENT HOST:PORT SNI | raw CLIENT HOST:PORT | direct CLIENT HOST:PORT
      turned-get CLIENT ADDRESS:PORT TARGET HOST | turned-tls CLIENT ADDRESS:PORT SNI | turned-raw CLIENT ADDRESS:PORT
      path CLIENT HOST:PORT SNI METHOD TARGET HOST | turned-path CLIENT ADDRESS:PORT SNI METHOD TARGET HOST

Those that are turned go to where the client means to go, and know of no proxy. Of those with a path, the client trusts
no certificate but those of CA.

The token is how an origin is known: only an answer that holds it is `allowed`. A status line says nothing, as Squid
answers a denied CONNECT on an ssl-bump port with 200 and sends the 403 in TLS with a certificate of its own.
Standard library only.
"""

import concurrent.futures
import os
import socket
import ssl
import sys
import threading

SECONDS = 8
RAW = b"this is not TLS\r\n\r\n"


# --- origin ---------------------------------------------------------------------------------------------------------


def origin(token, certificate, *ports):
    for port in ports:
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", int(port)))
        listener.listen(256)
        threading.Thread(target=accept, args=(listener, token, certificate), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def accept(listener, token, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, context, token), daemon=True).start()


def answer(connection, context, token):
    """Speaks what the client speaks: TLS or not, HTTP or not."""
    try:
        with connection:
            connection.settimeout(SECONDS)
            if connection.recv(1, socket.MSG_PEEK) == b"\x16":
                connection = context.wrap_socket(connection, server_side=True)
            asked = connection.recv(4096)
            body = f"{token}\n".encode()
            if b" HTTP/1." in asked:
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                body = head.encode() + body
            connection.sendall(body)
            connection.close()
    except OSError:
        pass  # A client, or the proxy, that gave up: its own end tells.


# --- questions ------------------------------------------------------------------------------------------------------


def everything(connection):
    """All bytes until the end, or until it is cut off."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        pass
    return data


def verdict(data, token, where):
    """What these bytes from the proxy's side are."""
    if token.encode() in data:
        return "allowed"
    if not data:
        return f"denied cut off {where}"
    line = data.split(b"\r\n", 1)[0].decode("latin-1")
    squid = [field for field in data.decode("latin-1").split("\r\n") if field.lower().startswith("x-squid-error:")]
    status = line.split(" ")[1] if line.startswith("HTTP/") and " " in line else ""
    # 409: the address is none of the name's, or the two names of a request differ.
    kind = "denied" if status in ("403", "409") else "broken"
    return " ".join([kind, line, *squid, where])


def connect(client, address):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(SECONDS)
    connection.bind((client, 0))
    connection.connect(address)
    return connection


def get(connection, host, url):
    connection.sendall(f"GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def handshake(connection, sni):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=sni or None)


def name_and_port(target):
    host, port = target.rsplit(":", 1)
    return host.strip("[]"), int(port)


def turned(kind, client, target, rest, token):
    """A client that goes straight to where it means to go."""
    with connect(client, name_and_port(target)) as connection:
        if kind == "turned-raw":
            connection.sendall(RAW)
            return verdict(everything(connection), token, "after no TLS")
        if kind == "turned-get":
            get(connection, rest[1], rest[0])
            data = everything(connection)
            return verdict(data, token, "after GET") if data else "broken no answer to GET"
        try:
            secure = handshake(connection, rest[0])
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
            return f"denied cut off in TLS: {error}"
        except ssl.SSLError as error:
            # An origin answers TLS with TLS; what is in the clear is Squid's page.
            if error.reason == "WRONG_VERSION_NUMBER":
                return "denied answered in the clear"
            raise
        with secure:
            get(secure, rest[0] or target, "/")
            return verdict(everything(secure), token, "in TLS")


def inside(kind, client, target, rest, token, proxies, ca):
    """A request in TLS that the proxy opens."""
    sni, method, asked, host = rest
    connection = connect(client, name_and_port(target) if kind == "turned-path" else proxies[":" in client])
    with connection:
        if kind == "path":
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            if connection.recv(4096).split(b" ")[1] != b"200":
                return "broken no 200 to CONNECT"
        try:
            secure = ssl.create_default_context(cafile=ca).wrap_socket(connection, server_hostname=sni)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
            return f"denied cut off in TLS: {error}"
        with secure:
            head = f"{method} {asked} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            secure.sendall(head.encode())
            return verdict(everything(secure), token, f"to {method}")


def question(line, token, proxies, ca):
    kind, client, target, *rest = line.split("\t")
    if kind in ("path", "turned-path"):
        return inside(kind, client, target, rest, token, proxies, ca)
    if kind.startswith("turned-"):
        return turned(kind, client, target, rest, token)
    if kind == "direct":
        address = host, _ = name_and_port(target)
        with connect(client, address) as plain:
            get(plain, host, "/")
            first = verdict(everything(plain), token, "in HTTP")
        with handshake(connect(client, address), None) as secure:
            get(secure, host, "/")
            second = verdict(everything(secure), token, "in TLS")
        return second if first == "allowed" else first

    with connect(client, proxies[":" in client]) as connection:
        if kind == "get":
            get(connection, target.split("/")[2], target)
            data = everything(connection)
            return verdict(data, token, "after GET") if data else "broken no answer to GET"
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return "broken cut off in the answer to CONNECT"
            head += byte
        if head.split(b" ")[1] != b"200":
            return verdict(head, token, "after CONNECT")
        if kind == "raw":
            connection.sendall(RAW)
            return verdict(everything(connection), token, "after CONNECT and no TLS")
        try:
            secure = handshake(connection, rest[0])
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
            return f"denied cut off in TLS: {error}"
        with secure:
            try:
                get(secure, rest[0] or target, "/")
                data = everything(secure)
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
                data = b""
            return verdict(data, token, "in TLS")


def ask(token, proxy4, proxy6, port, ca):
    proxies = {False: (proxy4, int(port)), True: (proxy6, int(port))}

    def one(line):
        try:
            return question(line, token, proxies, ca)
        except (OSError, ValueError, IndexError) as error:
            return f"broken {type(error).__name__}: {error}"

    lines = sys.stdin.read().splitlines()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for text in pool.map(one, lines):
            print(" ".join(text.split()))


if __name__ == "__main__":
    {"origin": origin, "ask": ask}[sys.argv[1]](*sys.argv[2:])
