"""Shared parts of the client tests: the server under test, its clients, and parsers of their output.

server    the server's process on free ports: start, stop, kill, restart
wire      one raw Cloud Map request in JSON or CBOR
model     the published service model: strict checks of responses, and all constraints of inputs
cloudmap  the 30 operations as methods, with short helpers that create namespaces, services and instances
sdk       boto3 and the aws CLI, as users have them
dns       dig's output as data, and single DNS messages
packet    DNS messages octet by octet, and the rules that every reply has to follow
program   other programs: started, killed, and restarted on the same port
kubernetes  etcd, kube-apiserver and kube-controller-manager as one cluster, and its objects
kubelet   a fake kubelet, which reports the status of pods
node      a node whose kubelet runs commands, probes, `kubectl exec` and `kubectl port-forward`
spdy      the streams of such a kubelet
kecs      pods, Deployments and other objects as KECS writes them
kecs_api  KECS's API as far as it makes ECS services
coredns   CoreDNS with its ConfigMaps
haproxy   HAProxy, which finds its servers by SRV records
musl      getaddrinfo of the C library musl
witness   checks every answer during a change by the pods that were ready at that time
recorded  all answers of the API about a store, as data
mirror    headless Services, EndpointSlices and Endpoints of a Cloud Map namespace, as kubectl shows them
agreement compares a Cloud Map service in the API, in DNS and in the cluster
container files, service accounts and networks as inside of a container
proxy     a fake kube-proxy for the address of a Service
deadline  waits for a condition instead of sleeping for a fixed time
"""
