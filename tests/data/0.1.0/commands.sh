#!/bin/sh
# The commands behind the data of this folder; the environment says which server they go to.
set -eu

sd() {
    aws servicediscovery "$@" --output text
}

# The operation of a command, and the namespace that an operation made.
operation() {
    sd "$@" --query OperationId
}
made() {
    sd get-operation --operation-id "$1" --query Operation.Targets.NAMESPACE
}
service() {
    sd create-service "$@" --query Service.Id
}
register() {
    sd register-instance --service-id "$1" --instance-id "$2" --attributes "$3" >/dev/null
}

# Namespaces of all kinds: tokens, descriptions, tags, SOA; one that is updated, one deleted, one whose operation fails.
private=$(made "$(operation create-private-dns-namespace --name production.local --vpc vpc-12345678 \
    --creator-request-id create-production --description 'The private zone' \
    --properties 'DnsProperties={SOA={TTL=30}}' --tags Key=team,Value=core Key=stage,Value=blue)")
public=$(made "$(operation create-public-dns-namespace --name shop.example --creator-request-id create-shop \
    --description 'The public zone' --properties 'DnsProperties={SOA={TTL=33}}' --tags Key=team,Value=shop)")
http=$(made "$(operation create-http-namespace --name Calls --creator-request-id create-calls \
    --description 'Names for DiscoverInstances alone' --tags Key=team,Value=calls)")
plain=$(made "$(operation create-private-dns-namespace --name plain.local --vpc vpc-12345678)")
gone=$(made "$(operation create-http-namespace --name gone)")
operation create-private-dns-namespace --name Production.local --vpc vpc-87654321 >/dev/null
operation update-private-dns-namespace --id "$private" \
    --namespace 'Description=The private zone of production,Properties={DnsProperties={SOA={TTL=15}}}' >/dev/null
operation update-public-dns-namespace --id "$public" --namespace 'Description=The shop' >/dev/null
operation update-http-namespace --id "$http" --namespace 'Description=Calls' >/dev/null
operation delete-namespace --id "$gone" >/dev/null
sd untag-resource --resource-arn "arn:aws:servicediscovery:us-east-1:000000000000:namespace/$private" --tag-keys stage
sd tag-resource --resource-arn "arn:aws:servicediscovery:us-east-1:000000000000:namespace/$private" \
    --tags Key=stage,Value=green

# Services of all record types and both routing policies, without records, and outside of DNS.
a=$(service --name a --namespace-id "$private" --description 'A alone' --creator-request-id create-a \
    --dns-config 'DnsRecords=[{Type=A,TTL=60}]' --tags Key=team,Value=a)
aaaa=$(service --name aaaa --namespace-id "$private" --dns-config 'DnsRecords=[{Type=AAAA,TTL=61}]')
both=$(service --name both --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=62},{Type=AAAA,TTL=63}]')
srv=$(service --name srv --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=64},{Type=SRV,TTL=65}]')
cname=$(service --name cname --namespace-id "$private" \
    --dns-config 'RoutingPolicy=WEIGHTED,DnsRecords=[{Type=CNAME,TTL=66}]')
weighted=$(service --name weighted --namespace-id "$private" \
    --dns-config 'RoutingPolicy=WEIGHTED,DnsRecords=[{Type=A,TTL=67}]')
api=$(service --name api --namespace-id "$private" --type HTTP)
calls=$(service --name Calls --namespace-id "$http" --description 'Outside of DNS')
checked=$(service --name checked --namespace-id "$public" --dns-config 'DnsRecords=[{Type=A,TTL=68}]' \
    --health-check-config 'Type=HTTP,ResourcePath=/health,FailureThreshold=3')
reported=$(service --name reported --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=69}]' \
    --health-check-custom-config FailureThreshold=1)
open=$(service --name open --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=70}]' \
    --health-check-custom-config FailureThreshold=1)
withheld=$(service --name withheld --namespace-id "$plain" --dns-config 'DnsRecords=[{Type=A,TTL=71}]' \
    --health-check-config Type=TCP)
updated=$(service --name updated --namespace-id "$plain" --dns-config 'DnsRecords=[{Type=A,TTL=72},{Type=SRV,TTL=73}]')
deleted=$(service --name deleted --namespace-id "$plain" --dns-config 'DnsRecords=[{Type=A,TTL=74}]')
sd update-service-attributes --service-id "$open" --attributes fail-open=true,team=open,removed=x
sd delete-service-attributes --service-id "$open" --attributes removed
sd update-service-attributes --service-id "$withheld" --attributes unknown=withhold
sd update-service-attributes --service-id "$checked" --attributes unknown=serve
operation update-service --id "$updated" --service 'Description=Without SRV,DnsConfig={DnsRecords=[{Type=A,TTL=5}]}' \
    >/dev/null
sd delete-service --id "$deleted"

# Instances: every key that Cloud Map and ECS have, other ones, with and without a token, ids of all forms.
sd register-instance --service-id "$a" --instance-id with-token --creator-request-id register-with-token \
    --attributes AWS_INSTANCE_IPV4=10.0.1.1 >/dev/null
sd register-instance --service-id "$a" --instance-id with-uuid \
    --creator-request-id 1b4e28ba-2fa1-11d2-883f-0016d3cca427 --attributes AWS_INSTANCE_IPV4=10.0.1.2 >/dev/null
register "$a" without-token AWS_INSTANCE_IPV4=10.0.1.3
register "$a" task:1 AWS_INSTANCE_IPV4=10.0.1.4
register "$a" removed AWS_INSTANCE_IPV4=10.0.1.5
operation deregister-instance --service-id "$a" --instance-id removed >/dev/null
register "$aaaa" one AWS_INSTANCE_IPV6=2001:db8::1
register "$both" one AWS_INSTANCE_IPV4=10.0.2.1,AWS_INSTANCE_IPV6=2001:db8::2
register "$srv" ecs-task AWS_INSTANCE_IPV4=10.0.3.1,AWS_INSTANCE_PORT=8080,AVAILABILITY_ZONE=us-east-1a,REGION=us-east-1,\
ECS_SERVICE_NAME=backend,ECS_CLUSTER_NAME=default,ECS_TASK_DEFINITION_FAMILY=backend
register "$srv" again AWS_INSTANCE_IPV4=10.0.3.2,AWS_INSTANCE_PORT=8081,stage=blue
register "$srv" again AWS_INSTANCE_IPV4=10.0.3.3,AWS_INSTANCE_PORT=8082,stage=green
register "$srv" Task AWS_INSTANCE_IPV4=10.0.3.4,AWS_INSTANCE_PORT=8083
register "$srv" task AWS_INSTANCE_IPV4=10.0.3.5,AWS_INSTANCE_PORT=8084
register "$srv" task:1 AWS_INSTANCE_IPV4=10.0.3.6,AWS_INSTANCE_PORT=8085
register "$cname" one AWS_INSTANCE_CNAME=www.example.com
register "$weighted" balancer AWS_ALIAS_DNS_NAME=lb-1.elb.example.com
register "$weighted" one AWS_INSTANCE_IPV4=10.0.4.1
register "$api" one '{"AWS_INSTANCE_IPV4": "10.0.5.1", "note": "one, \"two\" = three", "empty": "", "AWS_INSTANCE_ID": "x"}'
register "$calls" i-0abcdef0123456789 AWS_EC2_INSTANCE_ID=i-0abcdef0123456789
register "$calls" unhealthy-first AWS_INIT_HEALTH_STATUS=UNHEALTHY,url=https://example.com/call
register "$checked" one AWS_INSTANCE_IPV4=10.0.6.1,AWS_INSTANCE_PORT=80
register "$checked" two AWS_INSTANCE_IPV4=10.0.6.2,AWS_INSTANCE_PORT=80
register "$withheld" one AWS_INSTANCE_IPV4=10.0.7.1,AWS_INSTANCE_PORT=80
register "$updated" one AWS_INSTANCE_IPV4=10.0.8.1,AWS_INSTANCE_PORT=80
register "$reported" never-reported AWS_INSTANCE_IPV4=10.0.9.1
register "$reported" healthy AWS_INSTANCE_IPV4=10.0.9.2
register "$reported" unhealthy AWS_INSTANCE_IPV4=10.0.9.3
register "$reported" unhealthy-first AWS_INSTANCE_IPV4=10.0.9.4,AWS_INIT_HEALTH_STATUS=UNHEALTHY
register "$reported" recovered AWS_INSTANCE_IPV4=10.0.9.5,AWS_INIT_HEALTH_STATUS=UNHEALTHY
register "$open" unhealthy AWS_INSTANCE_IPV4=10.0.10.1
sd update-instance-custom-health-status --service-id "$reported" --instance-id healthy --status HEALTHY
sd update-instance-custom-health-status --service-id "$reported" --instance-id unhealthy --status UNHEALTHY
sd update-instance-custom-health-status --service-id "$reported" --instance-id recovered --status HEALTHY
sd update-instance-custom-health-status --service-id "$open" --instance-id unhealthy --status UNHEALTHY

# One name in DNS for two instances: x.db.web.production.local.
db=$(service --name db.web --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=60}]')
register "$db" x AWS_INSTANCE_IPV4=10.0.11.2
web=$(service --name web --namespace-id "$private" --dns-config 'DnsRecords=[{Type=A,TTL=60},{Type=SRV,TTL=60}]')
register "$web" x.db AWS_INSTANCE_IPV4=10.0.11.1,AWS_INSTANCE_PORT=80
