"""Both ends of a probe through a router under test. Started by netns.rs, inside the lab's namespaces.

  probe.py server   ports on one line of stdin (`tcp:443 udp:123`); says `ready`; answers until stdin ends
  probe.py client   a flow a line on stdin (`src dst tcp|udp|ping port`); a verdict a line, in order
  probe.py flush    empties this namespace's connection tracking

Standard library only. What fails here is the harness and not the rules: it ends with a traceback and a bad exit code.
"""

import collections
import errno
import itertools
import os
import resource
import select
import socket
import struct
import sys
import time

# Not in the socket module.
IP_RECVERR, IPV6_RECVERR = 11, 25
SO_RCVBUFFORCE = 33
IP_BIND_ADDRESS_NO_PORT = 24
NETLINK_NETFILTER = 12
PKTINFO = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)

# The second try is for a machine that was busy during the first, and for TCP's second SYN.
WAITS = (0.3, 1.2)
IN_FLIGHT = 2000

# What an ICMP error or a reset becomes at a socket.
TOLD = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM,
    errno.ENOPROTOOPT, errno.EPROTO, errno.EHOSTDOWN, errno.ENONET, errno.EPIPE,
}


def more_files():
    """As many open sockets as this process may have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def plain(address):
    """An IPv4 address of a dual-stack socket in its own spelling."""
    return address.removeprefix("::ffff:")


# --- server ---------------------------------------------------------------------------------------------------------


def serve():
    more_files()
    ports = sys.stdin.readline().split()
    poll = select.epoll()
    sockets = {}
    for item in ports:
        kind, port = item.split(":")
        one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setblocking(False)
        if kind == "tcp":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("::", int(port)))
            one.listen(4096)
        else:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            one.bind(("::", int(port)))
        sockets[one.fileno()] = (kind, one)
        poll.register(one, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for number, _ in poll.poll():
            if number == 0:
                return
            kind, one = sockets[number]
            try:
                while True:
                    welcome(one) if kind == "tcp" else echo(one)
            except BlockingIOError:
                pass
            except OSError as error:
                # One client's trouble (a connection it already gave up) is not the others'.
                print(f"server: {kind}: {error}", file=sys.stderr)


def welcome(listener):
    """Tells a TCP client which address and port it got to, in the destination's own words."""
    connection, _ = listener.accept()
    with connection:
        name = connection.getsockname()
        connection.send(f"{plain(name[0])} {name[1]}\n".encode())


def echo(one):
    """Sends a datagram back from the address it was sent to, with that address and port in front."""
    data, control, _, peer = one.recvmsg(2048, 256)
    address = next(value[:16] for level, kind, value in control if (level, kind) == PKTINFO)
    name = f"{plain(socket.inet_ntop(socket.AF_INET6, address))} {one.getsockname()[1]}\n"
    # No interface: the one it came by need not be the one that has the address.
    one.sendmsg([name.encode(), data], [(*PKTINFO, address + bytes(4))], 0, peer)


# --- client ---------------------------------------------------------------------------------------------------------


class Attempt:
    """One flow on its way; `verdict` is None while nothing is known."""

    def __init__(self, index, flow):
        self.index = index
        self.src, self.dst, self.proto, self.port = flow
        self.v6 = ":" in self.dst
        self.verdict = None
        self.token = os.urandom(12)
        self.socket = self.open()
        try:
            if self.proto == "tcp":
                code = self.socket.connect_ex((self.dst, self.port))
                if code == errno.ECONNREFUSED:
                    self.verdict = "rejected"
                elif code not in (0, errno.EINPROGRESS):
                    raise OSError(code, f"{flow}: {os.strerror(code)}")
            else:
                # No route is the lab's fault: raised from here. An error behind it is the rules' answer.
                self.socket.connect((self.dst, self.port))
                self.send()
        except BaseException:
            self.socket.close()
            raise

    def open(self):
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        if self.proto == "tcp":
            one = socket.socket(family, socket.SOCK_STREAM)
            # Closed with a reset: no connection lingers.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.proto == "udp":
            one = socket.socket(family, socket.SOCK_DGRAM)
        else:
            number = socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
            one = socket.socket(family, socket.SOCK_DGRAM, number)
        one.setblocking(False)
        # ICMP errors at once; else IPv6 TCP hears of them only with its second SYN.
        if self.v6:
            one.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            one.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        if self.proto == "tcp":
            one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        one.bind((self.src, 0))
        return one

    def send(self):
        data = self.token
        if self.proto == "ping":
            data = struct.pack("!BBHHH", 128 if self.v6 else 8, 0, 0, 0, 1) + data
        try:
            self.socket.send(data)
        except OSError as error:
            if error.errno not in TOLD:
                raise
            self.verdict = "rejected"

    def wake(self, events):
        """Something happened at the socket."""
        if events & select.EPOLLERR:
            if self.icmp_error() or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in TOLD:
                self.verdict = "rejected"
                return
        if events & (select.EPOLLIN | select.EPOLLHUP):
            try:
                data = self.socket.recv(2048)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in TOLD:
                    raise
                self.verdict = "rejected"
                return
            if self.answers(data):
                self.verdict = "allowed"
            elif data:
                sys.exit(f"{self.src} -> {self.dst} {self.proto} {self.port}: answered by another: {data!r}")
            elif self.proto == "tcp":
                self.verdict = "rejected"  # Ended without a word.

    def icmp_error(self):
        """Whether the socket's queue of errors holds one that came by ICMP and ends the flow."""
        try:
            _, control, _, _ = self.socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return False
        for _, _, value in control:
            number, origin = struct.unpack_from("=IB", value)
            if origin in (2, 3) and number in TOLD:
                return True
        return False

    def answers(self, data):
        """Whether this is the answer of the destination itself."""
        name = f"{canonical(self.dst)} {self.port}\n".encode()
        if self.proto == "tcp":
            return data == name
        if self.proto == "udp":
            return data == name + self.token
        return data[:1] == (b"\x81" if self.v6 else b"\x00") and data[8:] == self.token


def canonical(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))


def attempt(flows, indices, wait, verdicts):
    """Tries these flows, many at a time; fills in the verdicts and returns those that stayed silent."""
    in_flight = min(IN_FLIGHT, more_files() - 64)
    poll = select.epoll()
    waiting = collections.deque(indices)
    running = {}  # by file number, in order of their deadlines
    silent = []

    def close(number):
        one, _ = running.pop(number)
        poll.unregister(number)
        one.socket.close()

    while waiting or running:
        while waiting and len(running) < in_flight:
            index = waiting.popleft()
            one = Attempt(index, flows[index])
            if one.verdict:
                verdicts[index] = one.verdict
                one.socket.close()
                continue
            running[one.socket.fileno()] = (one, time.monotonic() + wait)
            poll.register(one.socket, select.EPOLLIN)
            # Answers come faster than new flows: take them in between.
            if len(running) % 50 == 0:
                break
        now = time.monotonic()
        first = next(iter(running.values()), (None, now))[1]
        pause = 0 if waiting and len(running) < in_flight else max(0, first - now)
        for number, events in poll.poll(pause):
            one, _ = running[number]
            one.wake(events)
            if one.verdict:
                verdicts[one.index] = one.verdict
                close(number)
        now = time.monotonic()
        late = itertools.takewhile(lambda item: item[1][1] <= now, running.items())
        for number in [number for number, _ in late]:
            silent.append(running[number][0].index)
            close(number)
    return silent


def probe():
    flows = []
    for line in sys.stdin:
        src, dst, proto, port = line.split()
        flows.append((src, dst, proto, int(port)))
    verdicts = ["silent"] * len(flows)
    left = range(len(flows))
    for wait in WAITS:
        left = attempt(flows, left, wait, verdicts)
    print("\n".join(verdicts))


# --- connection tracking --------------------------------------------------------------------------------------------


def flush():
    """What `conntrack -F` does: without it, a flow that a former ruleset let through could pass as established."""
    request, acknowledge = 1, 4
    delete_connections = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; no attributes: all of them
    message = struct.pack("=IHHII", 20, delete_connections, request | acknowledge, 1, 0) + struct.pack("=BBH", 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(10)
        kernel.send(message)
        answer = kernel.recv(4096)
    code = -struct.unpack_from("=i", answer, 16)[0]
    if code:
        sys.exit(f"emptying connection tracking: {os.strerror(code)}")


if __name__ == "__main__":
    {"server": serve, "client": probe, "flush": flush}[sys.argv[1]]()
