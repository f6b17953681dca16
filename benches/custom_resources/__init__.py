"""Parts of the bench `benches/store`.

load     HTTP requests over many keep-alive connections
world    the instances, as API requests and as custom resources
server   the server's process: its start, its answers, its memory
cluster  the API server: its counts of writes, its memory, its lists
sides    instances written through the server, and by a plain client
table    the table at the end
"""
