# Servers booted by systemd, on one machine: to be sourced by tests that need real ones.
#
# Each is a network namespace on a bridge of its own, a Debian root that all share below an overlay of
# its own, and systemd-nspawn. Their names and addresses are this run's alone, nothing leaves the
# bridge, and hosts_end takes away all of it.
#
#   hosts_missing            prints what this machine lacks for it, if anything
#   hosts_begin DIR N        the root below DIR/base (once, a minute), the bridge, room for N of them
#   host_make I [SHARED]     makes host I; SHARED is seen there as /run/shared, read-only
#   host_boot I              boots it with the disk it has, and waits until it is up
#   host_run I COMMAND...    runs a command on it, as root
#   host_crash I             ends every process on it at once; what was written stays
#   host_stop I              an orderly end
#   host_address I
#   hosts_end

HOSTS_READY_S=60
HOSTS_NAME=groundswell-$$
# The third octet is this run's, too: two runs on one machine do not meet, but their logs can.
HOSTS_NET=10.$((77 + $$ % 100)).$(($$ / 100 % 250))
HOSTS_PACKAGES=systemd,systemd-sysv,dbus,adduser,iproute2,procps
hosts_made=() hosts_limits=()

hosts_missing() {
    local tool
    [ "$(id -u)" = 0 ] || { echo "not root" && return; }
    for tool in systemd-nspawn debootstrap ip nsenter; do
        command -v "$tool" >/dev/null || { echo "$tool is missing (apt-get install systemd-container debootstrap iproute2)" && return; }
    done
    ip netns add "$HOSTS_NAME-try" 2>/dev/null || { echo "no network namespace can be made" && return; }
    ip netns del "$HOSTS_NAME-try"
    hosts_cgroup >/dev/null || { echo "no control group can be made" && return; }
    hosts_cgroups_end
}

# The control group of version 2 that this process is in, by its path.
hosts_own_cgroup() {
    local mount path
    mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    path=$(sed -n 's/^0:://p' /proc/self/cgroup)
    [ -n "$mount" ] && [ -d "$mount$path" ] && echo "$mount${path%/}"
}

# Makes one for the hosts of this run.
hosts_cgroup() {
    local own
    own=$(hosts_own_cgroup) && mkdir -p "$own/$HOSTS_NAME" && echo "$own/$HOSTS_NAME"
}

# In every hierarchy: beside version 2, systemd-nspawn makes the same groups in its own of version 1.
hosts_cgroups_end() {
    find /sys/fs/cgroup -depth -type d -path "*/$HOSTS_NAME*" -exec rmdir {} + 2>/dev/null || true
}

hosts_base() {
    local base=$HOSTS_DIR/base suite mirror unit
    [ ! -e "$base.made" ] || return 0
    rm -rf "$base"
    # The same Debian or Ubuntu as here, from where this machine has its own.
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -v '^ *#' | grep -oE 'https?://[^ ]+' | grep -v security | head -n 1 || true)
    debootstrap --variant=minbase --include=$HOSTS_PACKAGES "$suite" "$base" $mirror >"$HOSTS_DIR/base.log" 2>&1 ||
        { tail -n 5 "$HOSTS_DIR/base.log" >&2 && return 1; }
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
        console-getty.service getty.target systemd-remount-fs.service systemd-timesyncd.service; do
        ln -sf /dev/null "$base/etc/systemd/system/$unit"
    done
    mkdir -p "$base/var/log/journal"
    : >"$base/etc/machine-id"
    rm -f "$base"/var/cache/apt/archives/*.deb
    touch "$base.made"
}

# hosts_limit KEY LEAST: until hosts_end.
hosts_limit() {
    local now
    now=$(sysctl -n "$1")
    [ "$now" -ge "$2" ] || { hosts_limits+=("$1=$now") && sysctl -qw "$1=$2"; }
}

hosts_begin() {
    HOSTS_DIR=$1
    mkdir -p "$HOSTS_DIR/$HOSTS_NAME"
    hosts_base
    # Each systemd has a few of these, and all namespaces share one table of neighbours.
    hosts_limit fs.inotify.max_user_instances $((100 + 10 * $2))
    hosts_limit net.ipv4.neigh.default.gc_thresh3 $((1000 + 2 * $2 * $2))
    hosts_limit net.ipv4.neigh.default.gc_thresh2 $((500 + 2 * $2 * $2))
    ip netns add "$HOSTS_NAME"
    ip -n "$HOSTS_NAME" link add bridge type bridge forward_delay 0
    ip -n "$HOSTS_NAME" link set bridge up
    HOSTS_CGROUP=$(hosts_cgroup)
}

host_address() { echo "$HOSTS_NET.$(($1 + 10))"; }
host_dir() { echo "$HOSTS_DIR/$HOSTS_NAME/$1"; }

host_make() {
    local dir network=$HOSTS_NAME-$1
    dir=$(host_dir "$1")
    mkdir -p "$dir/upper" "$dir/work" "$dir/root"
    mount -t overlay "$HOSTS_NAME-$1" -o "lowerdir=$HOSTS_DIR/base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
    hosts_made+=("$1")
    # A machine of its own: two with one id would be one host to each other.
    printf '%024x%08x\n' $$ "$1" >"$dir/root/etc/machine-id"
    echo "host-$1" >"$dir/root/etc/hostname"
    echo "${2-}" >"$dir/shared"
    ip netns add "$network"
    ip -n "$network" link set lo up
    ip -n "$HOSTS_NAME" link add "host$1" type veth peer name eth0 netns "$network"
    ip -n "$HOSTS_NAME" link set "host$1" master bridge up
    ip -n "$network" addr add "$(host_address "$1")/24" dev eth0
    ip -n "$network" link set eth0 up
    # What an agent takes its address from.
    ip -n "$network" route add default dev eth0
}

host_boot() {
    local dir shared deadline=$((SECONDS + HOSTS_READY_S)) state=
    dir=$(host_dir "$1")
    shared=$(cat "$dir/shared")
    (
        # systemd-nspawn makes groups below its own: it gets one of its own.
        mkdir -p "$HOSTS_CGROUP/$1"
        echo "$BASHPID" >"$HOSTS_CGROUP/$1/cgroup.procs"
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
        exec setsid systemd-nspawn --quiet --directory="$dir/root" --machine="$HOSTS_NAME-$1" --hostname="host-$1" \
            --boot --register=no --keep-unit --network-namespace-path="/run/netns/$HOSTS_NAME-$1" --capability=all \
            --link-journal=no --resolv-conf=off --timezone=off --console=pipe --kill-signal=SIGRTMIN+3 \
            ${shared:+--bind-ro="$shared:/run/shared"} </dev/null >>"$dir/console" 2>&1
    ) &
    echo $! >"$dir/nspawn"
    while [ $SECONDS -lt $deadline ] && kill -0 "$(cat "$dir/nspawn")" 2>/dev/null; do
        state=$(host_run "$1" systemctl is-system-running 2>/dev/null || true)
        case $state in running | degraded) return ;; esac
        sleep 0.1
    done
    echo "host $1 is not up ($state): $(tail -n 3 "$dir/console")" >&2
    return 1
}

# The process 1 of a host, as this machine sees it.
host_leader() {
    local nspawn child
    nspawn=$(cat "$(host_dir "$1")/nspawn" 2>/dev/null) || return 1
    read -r child _ <"/proc/$nspawn/task/$nspawn/children" 2>/dev/null || true
    [ -n "${child-}" ] && [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ] && echo "$child"
}

host_run() {
    local leader
    leader=$(host_leader "$1") || { echo "host $1 is down" >&2 && return 1; }
    shift
    nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- env --ignore-environment \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

host_crash() {
    local leader
    # With process 1 of a namespace go all of its processes.
    if leader=$(host_leader "$1"); then kill -KILL "$leader"; fi
    host_wait "$1"
}

host_stop() {
    host_run "$1" systemctl poweroff || true
    host_wait "$1"
}

host_wait() {
    local nspawn
    nspawn=$(cat "$(host_dir "$1")/nspawn" 2>/dev/null) || return 0
    for _ in $(seq 300); do
        kill -0 "$nspawn" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$nspawn"
}

hosts_end() {
    local host dir
    for host in "${hosts_made[@]}"; do
        dir=$(host_dir "$host")
        host_crash "$host" || true
        umount "$dir/root" 2>/dev/null || umount --lazy "$dir/root" || true
        ip netns del "$HOSTS_NAME-$host" 2>/dev/null || true
    done
    ip netns del "$HOSTS_NAME" 2>/dev/null || true
    hosts_cgroups_end
    [ ${#hosts_limits[@]} = 0 ] || sysctl -qw "${hosts_limits[@]}" || true
    [ -z "${HOSTS_DIR-}" ] || rm -rf "${HOSTS_DIR:?}/$HOSTS_NAME"
}
