# Sourced by the benchmarks of networks: hosts are network namespaces on a bridge, each behind a link of $rate in both
# directions. Needs root and iproute2. TCP there is Linux's default, cubic, whatever this machine has (CONGESTION).
pids=() spaces=()
# Of those that the kernel has, only some may be chosen in namespaces.
sysctl -qw "net.ipv4.tcp_allowed_congestion_control=$(sysctl -n net.ipv4.tcp_available_congestion_control)"

# Ends all processes, and takes all hosts away.
stop() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    local space
    for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done
    pids=() spaces=()
}

# A bridge without hosts, in a namespace of its own; hosts are called as it is, with a dash and their name: NAME.
open_bridge() {
    net=$1 bridge=$1-br
    ip netns add "$bridge"
    spaces+=("$bridge")
    ip -n "$bridge" link add bridge0 type bridge
    ip -n "$bridge" link set bridge0 up
}

# A burst is larger than the largest packets, of 64 kB and a header: smaller ones have each cut into 45, which costs
# more of the cores than all else.
# A host on the bridge: NAME NUMBER. Its address is 10.99.0.NUMBER, its interface e0.
join_bridge() {
    local space=$net-$1
    ip netns add "$space"
    spaces+=("$space")
    ip -n "$bridge" link add "v$1" type veth peer name e0 netns "$space"
    ip -n "$bridge" link set "v$1" master bridge0 up
    ip -n "$space" addr add "10.99.0.$2/24" dev e0
    ip -n "$space" link set e0 up
    ip -n "$space" link set lo up
    ip netns exec "$space" sysctl -qw "net.ipv4.tcp_congestion_control=${CONGESTION:-cubic}"
    ip netns exec "$space" tc qdisc add dev e0 root tbf rate "$rate" burst 256kb latency 20ms
    ip netns exec "$bridge" tc qdisc add dev "v$1" root tbf rate "$rate" burst 256kb latency 20ms
}

# Hundredths of seconds that all processes used so far.
used() { local pid; for pid in "${pids[@]}"; do awk '{print $14 + $15}' "/proc/$pid/stat"; done | awk '{sum += $1} END {print sum}'; }

# Bytes that a host received and sent so far: NAME.
carried() { ip netns exec "$net-$1" awk '$1 == "e0:" {print $2, $10}' /proc/net/dev; }
