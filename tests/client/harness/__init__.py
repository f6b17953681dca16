"""What the client tests share: the server under test, its clients, and how answers are read.

server    the binary, started on free ports, stopped, killed, restarted
wire      one raw Cloud Map request in JSON or CBOR
model     the published service model: strict checks of responses, and every constraint of the inputs
cloudmap  the 30 operations as calls, with short makers for namespaces, services and instances
sdk       boto3 and the aws CLI, as users have them
dns       dig's output as data, and single DNS messages
packet    DNS messages octet by octet, and what has to hold for every reply
deadline  waiting for something without sleeping
"""
