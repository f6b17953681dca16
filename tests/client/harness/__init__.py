"""What the client tests share: the server under test, its clients, and how answers are read.

server    the binary, started on free ports, stopped, killed, restarted
wire      one raw Cloud Map request in JSON or CBOR
model     the published service model: strict checks of responses, and every constraint of the inputs
cloudmap  the 30 operations as calls, with short makers for namespaces, services and instances
sdk       boto3 and the aws CLI, as users have them
dns       dig's output as data, and single DNS messages
packet    DNS messages octet by octet, and what has to hold for every reply
program   other programs: started, killed, started again on the same port
kubernetes  etcd, kube-apiserver and kube-controller-manager as one cluster, and its objects
kubelet   what a kubelet writes to pods
kecs      pods and Deployments as KECS writes them
coredns   CoreDNS with its ConfigMaps
haproxy   HAProxy that finds its servers by SRV records, and which of them it uses
musl      getaddrinfo of the C library musl
witness   every answer during a change, judged by the pods that were ready at that time
recorded  everything that the API answers about a store, as data
mirror    headless Services, EndpointSlices and Endpoints of a Cloud Map namespace, as kubectl shows them
agreement one Cloud Map service as the API, DNS and the cluster show it
container files, accounts and networks as they are inside a container
proxy     what kube-proxy does for the address of a Service
deadline  waiting for something without sleeping
"""
