# shellcheck shell=sh
# One pod that is a whole Valkey Cluster: it owns all slots and forms itself.
#   start   write the users and become the server        form    (after each start) take the slots if nobody has any
#   ready   the cluster serves                            alive   the process answers, also while it loads
set -eu
run=/run/valkey

# The probes' own user: made anew at each start, never outside this pod.
cli() { REDISCLI_AUTH=$(cat $run/agent) valkey-cli --no-raw --user agent "$@" 2>&1; }
digest() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

start() {
    umask 077
    agent=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')
    {
        echo "user default off"
        echo "user app on #$(digest "$(cat /run/secrets/valkey/queue-password)") ~* &* +@all -@admin -@dangerous +info +config|get"
        echo "user agent on #$(digest "$agent") -@all +ping +cluster"
    } >$run/users.acl
    printf %s "$agent" >$run/agent
    # Clients learn the name, which outlives the address; the address must be told anew after each move.
    exec valkey-server /etc/valkey/valkey.conf --cluster-announce-ip "$POD_IP" --cluster-announce-hostname "$ANNOUNCE_HOSTNAME"
}

# Ends when the data is loaded and the slots are owned; the kubelet restarts the container when it fails.
form() {
    tries=0
    until [ -s $run/agent ] && cli PING | grep -q PONG; do
        tries=$((tries + 1))
        if [ $tries -gt 1500 ]; then echo "the server does not answer after 5 minutes" >&2; exit 1; fi
        sleep 0.2
    done
    info=$(cli CLUSTER INFO)
    case $info in
        *cluster_slots_assigned:0*cluster_known_nodes:1*) cli CLUSTER ADDSLOTSRANGE 0 16383 ;;
    esac
}

case $1 in
    start) start ;;
    form) form ;;
    ready) cli CLUSTER INFO | grep -q cluster_state:ok ;;
    alive) cli PING | grep -q -e PONG -e LOADING ;;
esac
