#!/usr/bin/env bash
# Shows on a cluster that cloudmap-dns follows the readiness of pods: in DNS, in the API and in the mirror's EndpointSlices.
#
# tests/client/test_health_script.py runs this file too. It uses nothing that bash 3.2, the one of macOS, lacks.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/test-health-service-discovery.sh [OPTION...]

Makes a Cloud Map namespace, a service with a custom health check, and two replicas whose readiness probe reads a file. Then
one replica loses the file and gets it again. DNS, GetInstancesHealthStatus and the EndpointSlices of the mirror have to show
two addresses, one, and two. Each step prints what was seen. Everything is removed at the end, also after a failure and Ctrl-C.

It needs kubectl (with the cluster as its current context), aws and dig. All names are new ones with a random suffix.

  --endpoint-url URL    the API of cloudmap-dns
                        (default: $AWS_ENDPOINT_URL_SERVICEDISCOVERY, else a port-forward to the Service)
  --dns ADDR[:PORT]     the DNS server to ask (default: DNS over TCP through a port-forward to the Service)
  --server NS/NAME      the Service of cloudmap-dns for port-forwards (default: cloudmap-dns/cloudmap)
  --namespace NAME      the Kubernetes namespace of the replicas. One that is missing is made, and removed at the end
                        (default: a new one; with --ecs that of the ECS cluster, <cluster>-<region>)
  --image IMAGE         an image with sh, touch and sleep (default: busybox:1.37)
  --require-mirror      fail if the server has no mirror; without this option its EndpointSlices are then not compared
  --ecs                 make the replicas by `aws ecs create-service`, at KECS, whose endpoint is in $AWS_ENDPOINT_URL
                        or $AWS_ENDPOINT_URL_ECS
  --cluster NAME        the ECS cluster for --ecs. One that is missing is made, and removed at the end (default: default)
  --region REGION       the region (default: $AWS_REGION, else $AWS_DEFAULT_REGION, else us-east-1)
  --timeout SECONDS     how long a step may take (default: 120)
  --help                this text

Exit status: 0 if all steps held, 1 at the first that did not, 2 if a tool is missing or an option is wrong.
TEXT
}

POLL_SECONDS=0.5
# A server that takes over the mirror does so within 20 seconds.
MIRROR_SECONDS_MAX=25
CLEAN_UP_SECONDS=120
TTL_SECONDS=5
SERVICE=replicas
CONTAINER=replica
CONTAINER_PORT=8080
PROBED=/tmp/healthy
# The shell is process 1 of the container, which ends on SIGTERM only if it has a trap.
COMMAND="touch $PROBED; trap exit TERM; sleep 86400 & wait"
MIRRORED=app.kubernetes.io/managed-by=cloudmap-dns

say() {
    printf '%-8s%s\n' "$1" "$2"
}

refuse() {
    echo "${0##*/}: $*" >&2
    exit 2
}

fail() {
    say FAILED "$1" >&2
    exit 1
}

endpoint_url=${AWS_ENDPOINT_URL_SERVICEDISCOVERY:-}
dns='' server=cloudmap-dns/cloudmap kubernetes_namespace='' image=busybox:1.37 require_mirror=false ecs=false ecs_cluster=default
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-us-east-1}} timeout_seconds=120
while (($# > 0)); do
    option=$1
    case $option in
        --help | -h) usage && exit ;;
        --ecs) ecs=true ;;
        --require-mirror) require_mirror=true ;;
        --endpoint-url | --dns | --server | --namespace | --image | --cluster | --region | --timeout)
            [[ $# -ge 2 && -n $2 ]] || refuse "$option needs a value; see --help"
            shift
            case $option in
                --endpoint-url) endpoint_url=$1 ;;
                --dns) dns=$1 ;;
                --server) server=$1 ;;
                --namespace) kubernetes_namespace=$1 ;;
                --image) image=$1 ;;
                --cluster) ecs_cluster=$1 ;;
                --region) region=$1 ;;
                --timeout) timeout_seconds=$1 ;;
            esac
            ;;
        *) refuse "there is no option $option; see --help" ;;
    esac
    shift
done

[[ $timeout_seconds =~ ^[1-9][0-9]{0,4}$ ]] || refuse "--timeout $timeout_seconds is not a number of seconds"
[[ $server =~ ^[a-z0-9-]+/[a-z0-9-]+$ ]] || refuse "--server $server is not of the form NAMESPACE/NAME"
if $ecs && [[ -z ${AWS_ENDPOINT_URL_ECS:-}${AWS_ENDPOINT_URL:-} ]]; then
    refuse "--ecs needs the endpoint of KECS in AWS_ENDPOINT_URL, such as http://localhost:5373"
fi
case $dns in
    \[*\]:*) dns_address=${dns#\[} dns_address=${dns_address%%\]*} dns_port=${dns##*:} ;;
    \[*\]) dns_address=${dns#\[} dns_address=${dns_address%\]} dns_port=53 ;;
    *:*:*) dns_address=$dns dns_port=53 ;;
    *:*) dns_address=${dns%:*} dns_port=${dns##*:} ;;
    *) dns_address=$dns dns_port=53 ;;
esac
[[ $dns_port =~ ^[1-9][0-9]{0,4}$ ]] || refuse "--dns $dns is not of the form ADDR or ADDR:PORT"

missing=''
for tool in kubectl aws dig; do
    command -v "$tool" >/dev/null || missing+=" $tool"
done
[[ -z $missing ]] || refuse "missing:$missing; install it, then run again"

suffix=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
run=health-test-$suffix
zone=$run.local
name=$SERVICE.$zone
selector=app=$run
dns_transport=UDP dns_options=()
forward=''
begun_namespace=false begun_replicas=false begun_kubernetes_namespace=false begun_ecs_cluster=false task_definition=''
mirror_namespace=''
if [[ -z $kubernetes_namespace ]]; then
    if $ecs; then kubernetes_namespace=$ecs_cluster-$region; else kubernetes_namespace=$run; fi
fi
work=$(mktemp -d)

# Requests are not signed. Neither cloudmap-dns nor KECS checks signatures, and AWS itself would refuse every request that a
# wrong endpoint sent there.
cloudmap() {
    AWS_PAGER='' aws servicediscovery "$@" --endpoint-url "$endpoint_url" --region "$region" --no-sign-request \
        --cli-connect-timeout 5 --cli-read-timeout 30
}

kecs() {
    AWS_PAGER='' aws ecs "$@" --region "$region" --no-sign-request --output text --cli-connect-timeout 5 --cli-read-timeout 60
}

kube() {
    kubectl --namespace "$kubernetes_namespace" --request-timeout=30s "$@"
}

# -- steps ------------------------------------------------------------------------------------------------------------------

# Runs a command and puts its output into `out`. The test fails if the command does.
must() {
    local what=$1
    shift
    out=$("$@" 2>"$work/stderr") || fail "$what: $(tail -n 3 "$work/stderr")"
}

# Runs a command and puts its output into `out`, or its error into `seen`.
attempt() {
    out=$("$@" 2>"$work/stderr") || { seen="the error: $(tail -n 1 "$work/stderr")"; return 1; }
}

# Repeats a check until it succeeds or the deadline has passed. The check puts what it has seen into `seen`.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep "$POLL_SECONDS"
    done
}

# A step: the check has to succeed before the step's deadline.
step() {
    local what=$1
    shift
    seen=nothing wanted=''
    within "$timeout_seconds" "$@" || fail "$what: after $timeout_seconds s there is $seen${wanted:+, and not $wanted}"
    say ok "$what: $seen"
}

in_one_line() {
    tr -s '[:space:]' ' ' | sed 's/^ //; s/ $//'
}

# The words of the standard input in one line, sorted.
sorted() {
    tr -s '[:space:]' '\n' | sort | in_one_line
}

# True if the words that were seen are the wanted ones in any order.
compare() {
    seen=$(or_none "$(sorted <<<"$1")")
    wanted=$(or_none "$(sorted <<<"$2")")
    [[ $seen == "$wanted" ]]
}

or_none() {
    echo "${1:-none}"
}

# -- what is seen -----------------------------------------------------------------------------------------------------------

forwards() {
    # The lines begin with "Forwarding from 127.0.0.1:PORT", in the order of the ports.
    forwarded=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$work/forward" | in_one_line)
    seen="127.0.0.1:${forwarded// / and 127.0.0.1:}"
    [[ $(wc -w <<<"$forwarded") -eq $1 ]] && return
    seen="no port yet; kubectl says: $(or_none "$(tail -n 1 "$work/forward")")"
    kill -0 "$forward" 2>/dev/null || fail "port-forward to $server: $seen"
    return 1
}

# The id of the namespace that the operation makes is put into namespace_id.
namespace_is_made() {
    local status message
    attempt cloudmap get-operation --operation-id "$1" --query 'Operation.[Status,Targets.NAMESPACE,ErrorMessage]' \
        --output text || return
    read -r status namespace_id message <<<"$out"
    [[ $status != FAIL ]] || fail "Cloud Map namespace $zone: $message"
    seen="$namespace_id is $status"
    [[ $status == SUCCESS ]] && seen=$namespace_id
}

POD='{.metadata.name}|{.status.podIPs[*].ip}|{.status.conditions[?(@.type=="Ready")].status}|{.metadata.deletionTimestamp}|'
POD+='{.status.containerStatuses[*].state.waiting.reason}'

# Two pods that are ready and not being deleted. Their IPv4 addresses are put into ip1 and ip2, the first one's name into pod1.
two_are_ready() {
    local pod ips ready deleted reason ip count=0
    attempt kube get pods -l "$selector" --sort-by=.metadata.name -o jsonpath="{range .items[*]}$POD{'\n'}{end}" || return
    seen='' pod1='' ip1='' ip2=''
    while IFS='|' read -r pod ips ready deleted reason; do
        [[ -n $pod && -z $deleted ]] || continue
        ip=$(tr ' ' '\n' <<<"$ips" | grep -F . | head -n 1 || true)
        seen+="${seen:+, }$pod ($(or_none "$ip")${reason:+, $reason})"
        [[ $ready == True && -n $ip ]] || { seen+=' is not ready'; continue; }
        count=$((count + 1))
        if ((count == 1)); then pod1=$pod ip1=$ip; else ip2=$ip; fi
    done <<<"$out"
    seen=$(or_none "$seen")
    ((count == 2))
}

dns_has() {
    # Options are expanded like this because an empty array is an unbound variable before bash 4.4.
    attempt dig ${dns_options[@]+"${dns_options[@]}"} +short +time=3 +tries=1 "@$dns_address" -p "$dns_port" "$name" A ||
        { seen="no answer: $(tail -n 1 <<<"$out")" && return 1; }
    compare "$(grep -E '^[0-9]+(\.[0-9]+){3}$' <<<"$out")" "$1"
}

# The health of each instance, as address=STATUS.
health_is() {
    local instances
    attempt cloudmap list-instances --service-id "$service_id" --query 'Instances[].[Id,Attributes.AWS_INSTANCE_IPV4]' \
        --output text || return
    instances=$out
    attempt cloudmap get-instances-health-status --service-id "$service_id" --query Status --output json || return
    compare "$({
        tr '\t' ' ' <<<"$instances"
        sed -n 's/^ *"\(.*\)": "\([A-Z]*\)",*$/= \1 \2/p' <<<"$out"
    } | awk '$1 == "=" { print ($2 in address ? address[$2] : $2) "=" $3; next } { address[$1] = $2 }')" "$1"
}

# The endpoints of the mirror's EndpointSlices, as address=ready.
slices_are() {
    attempt kubectl --request-timeout=30s get endpointslices --all-namespaces \
        -l "$MIRRORED,kecs.io/namespace=$zone,kecs.io/service=$SERVICE" \
        -o jsonpath='{range .items[*].endpoints[*]}{.addresses[0]}={.conditions.ready} {end}' || return
    compare "$out" "$1"
}

mirror_is_on() {
    attempt kubectl --request-timeout=30s get services --all-namespaces -l "$MIRRORED,kecs.io/namespace=$zone" \
        -o jsonpath='{range .items[*]}{.metadata.namespace} {.metadata.name}{end}' || return
    seen=$(or_none "$out")
    mirror_namespace=${out% *}
    [[ -n $out ]]
}

# The three views have these addresses: those that are served, and those of unhealthy replicas.
all_show() {
    local what=$1 served=$2 unhealthy=$3 ip health='' slices=''
    for ip in $served; do
        health+=" $ip=HEALTHY" slices+=" $ip=true"
    done
    for ip in $unhealthy; do
        health+=" $ip=UNHEALTHY" slices+=" $ip=false"
    done
    step "$what in DNS" dns_has "$served"
    step "$what in GetInstancesHealthStatus" health_is "$health"
    if [[ -n $mirror_namespace ]]; then
        step "$what in the EndpointSlices" slices_are "$slices"
    else
        say skip "$what in the EndpointSlices: the server has no mirror"
    fi
}

runs_in_pod() {
    attempt kube exec "$1" --container "$CONTAINER" -- "${@:2}" || return
    seen="${*:2}"
}

# -- replicas ---------------------------------------------------------------------------------------------------------------

make_kubernetes_namespace() {
    must "Kubernetes namespace $kubernetes_namespace" \
        kubectl --request-timeout=30s get namespace "$kubernetes_namespace" --ignore-not-found -o name
    if [[ -n $out ]]; then
        say ok "Kubernetes namespace $kubernetes_namespace: exists"
        return
    fi
    begun_kubernetes_namespace=true
    must "Kubernetes namespace $kubernetes_namespace" kubectl --request-timeout=30s create namespace "$kubernetes_namespace"
    say ok "Kubernetes namespace $kubernetes_namespace: made"
}

registries() {
    echo "[{\"containerName\":\"$CONTAINER\",\"containerPort\":$CONTAINER_PORT,\"registryArn\":\"$service_arn\"}]"
}

# The labels and the annotation are those by which KECS marks the pods of an ECS service.
deployment() {
    cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $run
  labels: {app: $run}
spec:
  replicas: 2
  selector: {matchLabels: {app: $run}}
  template:
    metadata:
      labels: {app: $run, kecs.dev/service: $run, kecs.dev/managed-by: kecs}
      annotations: {kecs.dev/service-registries: '$(registries)'}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 5
      securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: $CONTAINER
          image: $image
          command: [sh, -c, "$COMMAND"]
          ports: [{containerPort: $CONTAINER_PORT}]
          readinessProbe: {exec: {command: [test, -f, $PROBED]}, periodSeconds: 1, failureThreshold: 1}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
YAML
}

make_deployment() {
    make_kubernetes_namespace
    begun_replicas=true
    deployment >"$work/deployment.yaml"
    must "Deployment $run" kube create -f "$work/deployment.yaml"
    say ok "Deployment $run: made, with the service in the annotation kecs.dev/service-registries of its pods"
}

# KECS takes the health check for both the liveness and the readiness probe. The longest start period keeps the liveness probe
# away for 300 seconds, so that the replica is not restarted, and readiness is probed after 10 seconds.
containers() {
    cat <<JSON
[{"name": "$CONTAINER", "image": "$image", "memory": 64, "command": ["sh", "-c", "$COMMAND"],
  "portMappings": [{"containerPort": $CONTAINER_PORT}],
  "healthCheck": {"command": ["CMD-SHELL", "test -f $PROBED"], "interval": 5, "timeout": 2, "retries": 1, "startPeriod": 300}}]
JSON
}

make_ecs_service() {
    must "ECS cluster $ecs_cluster" kecs describe-clusters --clusters "$ecs_cluster" --query 'clusters[].status'
    # A cluster in any other state is somebody's, and must not be removed at the end.
    if [[ -z $out || $out == None || $out == INACTIVE ]]; then
        begun_ecs_cluster=true
        must "ECS cluster $ecs_cluster" kecs create-cluster --cluster-name "$ecs_cluster"
    fi
    task_definition=$run
    must "task definition $run" kecs register-task-definition --family "$run" --container-definitions "$(containers)" \
        --query taskDefinition.taskDefinitionArn
    task_definition=$out
    say ok "task definition: $out"
    begun_replicas=true
    must "ECS service $run" kecs create-service --cluster "$ecs_cluster" --service-name "$run" --task-definition "$run" \
        --desired-count 2 --query service.serviceArn \
        --service-registries "registryArn=$service_arn,containerName=$CONTAINER,containerPort=$CONTAINER_PORT"
    say ok "ECS service: $out"
}

# -- clean-up ---------------------------------------------------------------------------------------------------------------

# Runs a command of the clean-up. A failure is printed, and the clean-up continues.
removed() {
    local what=$1
    shift
    if out=$("$@" 2>&1); then
        say clean "$what"
    else
        say clean "$what: FAILED: $(tail -n 1 <<<"$out")" >&2
        is_clean=false
    fi
}

gone() {
    local what=$1
    shift
    seen=nothing
    if within "$CLEAN_UP_SECONDS" "$@"; then
        say clean "$what"
    else
        say clean "$what: FAILED: after $CLEAN_UP_SECONDS s there is $seen" >&2
        is_clean=false
    fi
}

no_pods() {
    attempt kube get pods -l "$selector" -o name || return
    seen=$(or_none "$(sorted <<<"$out")")
    [[ -z $out ]]
}

no_instances() {
    attempt cloudmap list-instances --service-id "$1" --query 'Instances[].Id' --output text || return
    seen=$(or_none "$out")
    [[ -z $out ]]
}

# A namespace or service may be there although the request that made it was interrupted, so both are looked up.
remove_cloud_map_namespace() {
    local namespace service
    attempt cloudmap list-namespaces --filters "Name=NAME,Values=$zone,Condition=EQ" --query 'Namespaces[].Id' --output text ||
        { removed "Cloud Map namespace $zone" echo_error "$seen" && return; }
    for namespace in $out; do
        if attempt cloudmap list-services --filters "Name=NAMESPACE_ID,Values=$namespace,Condition=EQ" \
            --query 'Services[].Id' --output text; then
            for service in $out; do
                gone "instances of $service" no_instances "$service"
                removed "Cloud Map service $service" cloudmap delete-service --id "$service"
            done
        fi
        removed "Cloud Map namespace $namespace" cloudmap delete-namespace --id "$namespace"
    done
}

echo_error() {
    echo "$*"
    return 1
}

clean_up() {
    local code=$?
    trap - EXIT
    # Ignored by the commands of the clean-up too.
    trap '' HUP INT PIPE TERM
    set +e
    is_clean=true
    if $begun_replicas; then
        if $ecs; then
            removed "ECS service $run" kecs delete-service --cluster "$ecs_cluster" --service "$run" --force
        else
            removed "Deployment $run" kube delete deployment "$run" --ignore-not-found
        fi
        gone "pods of $run" no_pods
    fi
    if $begun_namespace; then remove_cloud_map_namespace; fi
    kubernetes_namespaces=()
    if $begun_kubernetes_namespace; then kubernetes_namespaces+=("$kubernetes_namespace"); fi
    # The server makes the Kubernetes namespace of the mirror, and never deletes it.
    if [[ -n $mirror_namespace && $mirror_namespace == "${zone//./}" ]]; then kubernetes_namespaces+=("$mirror_namespace"); fi
    if ((${#kubernetes_namespaces[@]} > 0)); then
        removed "Kubernetes namespace ${kubernetes_namespaces[*]}" \
            kubectl delete namespace "${kubernetes_namespaces[@]}" --ignore-not-found --timeout="${CLEAN_UP_SECONDS}s"
    fi
    if [[ $task_definition == arn:* ]]; then
        removed "task definition $task_definition" kecs deregister-task-definition --task-definition "$task_definition"
    elif [[ -n $task_definition ]]; then
        removed "task definition $task_definition" kecs deregister-task-definition --task-definition "$task_definition:1"
    fi
    if $begun_ecs_cluster; then removed "ECS cluster $ecs_cluster" kecs delete-cluster --cluster "$ecs_cluster"; fi
    if [[ -n $forward ]]; then
        kill "$forward" 2>/dev/null
        wait "$forward" 2>/dev/null
    fi
    rm -rf "$work"
    if ((code == 0)); then
        if $is_clean; then say passed "DNS, the API and the mirror followed the probe"; else code=1; fi
    fi
    exit "$code"
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 141' PIPE
trap 'say stop "interrupted" >&2; exit 130' INT
trap 'exit 143' TERM

# -- the test ---------------------------------------------------------------------------------------------------------------

must "kubectl version" kubectl --request-timeout=30s version
must "kubectl config current-context" kubectl config current-context
say ok "cluster: the context $out of kubectl"

ports=()
[[ -n $endpoint_url ]] || ports+=(:api)
[[ -n $dns ]] || ports+=(:dns-tcp)
if ((${#ports[@]} > 0)); then
    # With job control the process has a group of its own, so that Ctrl-C does not end it before the clean-up.
    set -m
    kubectl --namespace "${server%/*}" port-forward --address 127.0.0.1 "service/${server#*/}" "${ports[@]}" \
        >"$work/forward" 2>&1 </dev/null &
    forward=$!
    set +m
    step "port-forward to service/${server#*/} in ${server%/*}" forwards "${#ports[@]}"
    if [[ -z $dns ]]; then
        dns_address=127.0.0.1 dns_port=${forwarded##* } dns_transport=TCP dns_options=(+tcp)
    fi
    [[ -n $endpoint_url ]] || endpoint_url=http://127.0.0.1:${forwarded%% *}
fi
say ok "API: $endpoint_url"
say ok "DNS: $dns_address port $dns_port over $dns_transport"

begun_namespace=true
must "Cloud Map namespace $zone" cloudmap create-private-dns-namespace --name "$zone" --vpc vpc-12345678 --query OperationId \
    --output text
step "Cloud Map namespace $zone" namespace_is_made "$out"
must "Cloud Map service $name" cloudmap create-service --name "$SERVICE" --namespace-id "$namespace_id" \
    --dns-config "NamespaceId=$namespace_id,DnsRecords=[{Type=A,TTL=$TTL_SECONDS}]" \
    --health-check-custom-config FailureThreshold=1 --query 'Service.[Id,Arn]' --output text
read -r service_id service_arn <<<"$out"
say ok "Cloud Map service $name: $service_id in $namespace_id, with a custom health check"
step "no address in DNS" dns_has ""

seen=nothing
if within $((timeout_seconds < MIRROR_SECONDS_MAX ? timeout_seconds : MIRROR_SECONDS_MAX)) mirror_is_on; then
    say ok "mirror: Service ${out#* } in $mirror_namespace"
elif $require_mirror; then
    fail "mirror: the server shows no Service for $name ($seen); --mirror on starts the mirror"
else
    say skip "mirror: the server shows no Service for $name ($seen), so EndpointSlices are not compared"
fi

if $ecs; then make_ecs_service; else make_deployment; fi
step "two replicas are ready" two_are_ready
all_show "two addresses" "$ip1 $ip2" ""

step "$pod1 ($ip1) fails" runs_in_pod "$pod1" rm -f "$PROBED"
all_show "one address" "$ip2" "$ip1"

step "$pod1 ($ip1) recovers" runs_in_pod "$pod1" touch "$PROBED"
all_show "two addresses again" "$ip1 $ip2" ""
