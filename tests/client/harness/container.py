"""The environment of a program in a container, without a container: its own files and its own network.

Both are Linux namespaces, made by util-linux's `unshare`. Root needs nothing else; other users need user namespaces, which most
systems allow.
"""

import functools
import os
import socket
import subprocess
import sys

from .deadline import PATIENCE_SECONDS
from .proxy import Proxy
from .server import Server, plain_environment

ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
DNS_PORT = 53
# The file that a kubelet writes for a pod of the namespace default-us-east-1, if the cluster's DNS is at 127.0.0.1.
RESOLV_CONF = """search default-us-east-1.svc.cluster.local svc.cluster.local cluster.local
nameserver 127.0.0.1
options ndots:5
"""
NSSWITCH_CONF = "hosts: files dns\n"
# Mounts files and folders over others and runs a program. Arguments: the number of pairs, pairs of source and target, the
# program and its arguments. /run is empty, so that sockets of the machine's name services are not found.
ENTER = """
mount -t tmpfs tmpfs "$(readlink -f /var/run)"
pairs=$1
shift
while [ "$pairs" -gt 0 ]; do
    place=$(readlink -m "$2")
    mkdir -p "${place%/*}/"
    if [ -d "$1" ]; then mkdir -p "$place"; elif [ ! -e "$place" ]; then : >"$place"; fi
    mount --bind "$1" "$place"
    shift 2
    pairs=$((pairs - 1))
done
exec "$@"
"""
# The pod's own address. Some resolvers ask for no addresses if a machine has only the loopback address.
POD_ADDRESS = "10.42.0.2"
# Brings up the loopback interface of a new network with the pod's address, binds the DNS port, passes both sockets to the
# test, and waits until its standard input is closed.
HOLD = """
import fcntl, socket, struct, sys
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8916, 0x891C, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    for request, address in ((SIOCSIFADDR, sys.argv[3]), (SIOCSIFNETMASK, "255.255.255.255")):
        packed = struct.pack("16sH2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(address))
        fcntl.ioctl(any, request, packed)
made = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
for one in made:
    one.bind(("127.0.0.1", int(sys.argv[2])))
with socket.socket(fileno=int(sys.argv[1])) as tells:
    socket.send_fds(tells, [b"."], [one.fileno() for one in made])
sys.stdin.read()
"""


@functools.cache
def user_options():
    """The options with which this user may make namespaces with `unshare` and `nsenter`."""
    for options in ((), ("--user", "--map-root-user")):
        probe = ["unshare", *options, "--mount", "--net", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return options
    raise RuntimeError("this user may not make Linux namespaces (unshare --user --map-root-user --mount --net): run the "
                       "tests as root, or let users have user namespaces (sysctl user.max_user_namespaces)")


def inside(files, *command, network=False):
    """The command line that runs a program with other files: `files` is target -> file or folder."""
    pairs = [str(word) for place, source in files.items() for word in (source, place)]
    namespaces = ["--mount", *(["--net"] if network else [])]
    return ["unshare", *user_options(), *namespaces, "sh", "-euc", ENTER, "sh", str(len(files)), *pairs,
            *map(str, command)]


class PodServer(Server):
    """The server as in a pod, with the service account's files and the variables that Kubernetes provides."""

    def __init__(self, directory, cluster, namespace, token, *options):
        super().__init__(directory, *options)
        self.cluster = cluster
        self.account = self.directory / "serviceaccount"
        self.account.mkdir()
        (self.account / "ca.crt").write_bytes(cluster.ca.read_bytes())
        (self.account / "namespace").write_text(namespace)
        self.rotate(token)

    def rotate(self, token):
        """Replaces the token, as a kubelet does."""
        rotate(self.account / "token", token)

    def command(self):
        return inside({ACCOUNT_FOLDER: self.account}, *super().command())

    def environment(self):
        there = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.cluster.port)}
        return super().environment() | there


def rotate(file, token):
    """Replaces the file of a token atomically."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(token)
    new.replace(file)


class PodNetwork:
    """A network of a pod, in which the address of the cluster's DNS leads to `dns` (host, port)."""

    def __init__(self, directory, dns):
        self.directory = directory
        self._dns = dns
        self._holder = self._proxy = None

    def start(self):
        files = {"/etc/resolv.conf": RESOLV_CONF, "/etc/nsswitch.conf": NSSWITCH_CONF}
        self.directory.mkdir(exist_ok=True)
        sources = {place: self.directory / os.path.basename(place) for place in files}
        for place, text in files.items():
            sources[place].write_text(text)
        told, tells = socket.socketpair()
        with told, tells:
            told.settimeout(PATIENCE_SECONDS)
            command = inside(sources, sys.executable, "-c", HOLD, tells.fileno(), DNS_PORT, POD_ADDRESS,
                             network=True)
            self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[tells.fileno()])
            _, descriptors, _, _ = socket.recv_fds(told, 1, 2)
        self._proxy = Proxy(lambda: [self._dns], *(socket.socket(fileno=descriptor) for descriptor in descriptors))
        self._proxy.start()
        return self

    def stop(self):
        if self._proxy is not None:
            self._proxy.stop()
        if self._holder is not None:
            self._holder.stdin.close()
            self._holder.wait()

    def run(self, *command, environment=None):
        """Runs a program in the pod and returns the finished process."""
        user = ["--user", "--preserve-credentials"] if user_options() else []
        enter = ["nsenter", f"--target={self._holder.pid}", *user, "--mount", "--net", "--"]
        return subprocess.run([*enter, *map(str, command)], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
                              stdin=subprocess.DEVNULL, cwd="/", env=plain_environment(self.directory) | (environment or {}))
