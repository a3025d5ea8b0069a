# Servers booted by systemd, on one machine: to be sourced by tests that need real ones, with HOSTS_DIR
# set to a directory for everything that they write.
#
# Each is a network namespace on a bridge of its own, a Debian root that all share below an overlay of
# its own, and systemd-nspawn. Their names and addresses are this run's alone, nothing leaves the
# bridge, and hosts_end takes away all of it but the root.
#
#   hosts_missing [TOOL...]  prints what this machine lacks for it, or of these tools, if anything
#   hosts_sweep              takes away what runs have left behind that were killed
#   hosts_beside COMMAND...  starts it beside this shell, as a part of all that hosts_end ends
#   hosts_base               makes the root that all share, HOSTS_DIR/base: once, a minute
#   hosts_begin N            the bridge, room for N hosts
#   host_make I [SHARED]     makes host I; SHARED is seen there as /run/shared, read-only
#   host_boot I              boots it with the disk it has, and waits until it is up
#   host_run I COMMAND...    runs a command on it, as root
#   host_crash I             ends every process on it at once; what was written stays
#   host_stop I              an orderly end
#   host_address I
#   hosts_end

HOSTS_READY_S=60
HOSTS_NAME=groundswell-$$
# This run's, also where its user may put what ends with it.
HOSTS_OWN=${HOSTS_DIR:?is not set}/$HOSTS_NAME
# The third octet is this run's, too: two runs on one machine do not meet, but their logs can.
HOSTS_NET=10.$((77 + $$ % 100)).$(($$ / 100 % 250))
HOSTS_PACKAGES=systemd,systemd-sysv,dbus,adduser,iproute2,procps

hosts_missing() {
    local tool suite
    [ "$(id -u)" = 0 ] || { echo "not root" && return; }
    for tool in systemd-nspawn debootstrap ip nsenter unshare "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is missing" && return; }
    done
    suite=$(hosts_suite) || { echo "debootstrap does not know this system: it takes Debian or Ubuntu" && return; }
    hosts_try
    hosts_end
    hosts_base_is_made || hosts_mirror "$suite" >/dev/null || echo "no mirror has $suite, of those that apt is told of"
}

# Prints the first part of a host that cannot be had here, as in most containers.
hosts_try() {
    ip netns add "$HOSTS_NAME-try" 2>/dev/null || { echo "no network namespace can be made" && return; }
    { ip -n "$HOSTS_NAME-try" link add bridge type bridge && ip -n "$HOSTS_NAME-try" link add port type veth; } 2>/dev/null ||
        { echo "no bridge or veth can be made" && return; }
    (cgroup=$(hosts_cgroup) && mkdir "$cgroup/try" && echo "$BASHPID" >"$cgroup/try/cgroup.procs") 2>/dev/null ||
        { echo "no control group can be made" && return; }
    mkdir -p "$HOSTS_OWN/try"/{lower,upper,work,root}
    { mknod "$HOSTS_OWN/try/null" c 1 3 && : >"$HOSTS_OWN/try/null"; } 2>/dev/null ||
        { echo "no device can be made in $HOSTS_DIR" && return; }
    unshare --mount --pid --fork --mount-proc mount -t overlay try \
        -o "lowerdir=$HOSTS_OWN/try/lower,upperdir=$HOSTS_OWN/try/upper,workdir=$HOSTS_OWN/try/work" "$HOSTS_OWN/try/root" 2>/dev/null ||
        echo "no overlay can be mounted in $HOSTS_DIR (is that one itself?)"
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

# hosts_cgroups NAME [TEST...]: a run's control groups, or what is in them, leaves first. They are in
# every hierarchy: beside version 2, systemd-nspawn makes the same ones in its own of version 1.
hosts_cgroups() {
    find /sys/fs/cgroup -depth \( -path "*/$1" -o -path "*/$1/*" \) "${@:2}" 2>/dev/null || true
}

# Its process is $!. What it starts in its turn is in its control group, too, so that nothing of a run
# goes on making hosts while they are taken away.
hosts_beside() {
    (
        beside=$(hosts_cgroup)/beside
        mkdir -p "$beside"
        echo "$BASHPID" >"$beside/cgroup.procs"
        set -e
        trap - EXIT
        "$@"
    ) </dev/null &
}

# Whether a process does anything yet: one that ended stays as Z until its parent asks for it, and process 1
# of a container may never do so.
is_running() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ $stat == *") "[!ZX]" "* ]]
}

# Ends every process of a run but the one that was started by hand. Who made them may be gone, so that
# they are nobody's children.
hosts_kill() {
    local process processes
    for _ in $(seq 100); do
        processes=()
        # Among them 0, for one in another namespace of processes: it is not running.
        for process in $(hosts_cgroups "$1" -name cgroup.procs -exec cat {} +); do
            if is_running "$process"; then processes+=("$process"); fi
        done
        [ ${#processes[@]} != 0 ] || return 0
        kill -KILL "${processes[@]}" 2>/dev/null || true
        sleep 0.1
    done
}

# The release of Debian or Ubuntu that this machine has: its hosts have the same.
hosts_suite() {
    local suite
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    [ -n "$suite" ] && [ -e "/usr/share/debootstrap/scripts/$suite" ] && echo "$suite"
}

# From where: the first that has it, of those that apt is told of.
hosts_mirror() {
    local mirror release
    for mirror in $(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^ *#' | grep -oE 'https?://[^ ]+'); do
        release=$(wget --quiet --timeout 10 --tries 1 --output-document - "${mirror%/}/dists/$1/InRelease") || continue
        # Others have directories of that name, too.
        case $release in *$'\nOrigin: Debian\n'* | *$'\nOrigin: Ubuntu\n'*) echo "$mirror" && return ;; esac
    done
    return 1
}

# What a root is made of; one of something else is made anew.
hosts_base_kind() { echo "$(hosts_suite) $HOSTS_PACKAGES"; }
hosts_base_is_made() { [ "$(cat "$HOSTS_DIR/base.made" 2>/dev/null)" = "$(hosts_base_kind)" ]; }

hosts_base() {
    local base=$HOSTS_DIR/base suite mirror unit lock
    mkdir -p "$HOSTS_DIR"
    # Another run may be making it, or what such a run has left behind.
    exec {lock}>"$base.lock"
    flock "$lock"
    ! hosts_base_is_made || { exec {lock}>&- && return; }
    rm -rf --one-file-system "$base" "$base.made"
    suite=$(hosts_suite)
    mirror=$(hosts_mirror "$suite") || { echo "no mirror has $suite" >&2 && return 1; }
    # In a namespace of its own, with which what it mounts in there goes, however it ends.
    unshare --mount debootstrap --variant=minbase --include=$HOSTS_PACKAGES "$suite" "$base" "$mirror" >"$base.log" 2>&1 ||
        { tail -n 5 "$base.log" >&2 && return 1; }
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
        console-getty.service getty.target systemd-remount-fs.service systemd-timesyncd.service; do
        ln -sf /dev/null "$base/etc/systemd/system/$unit"
    done
    mkdir -p "$base/var/log/journal"
    : >"$base/etc/machine-id"
    rm -f "$base"/var/cache/apt/archives/*.deb
    hosts_base_kind >"$base.made"
    # Else whatever this shell starts later would hold it.
    exec {lock}>&-
}

# hosts_limit KEY LEAST: until hosts_end. A courtesy for many hosts: where it is not to be had, a few do
# without.
hosts_limit() {
    local now
    now=$(sysctl -n "$1" 2>/dev/null) || return 0
    [ "$now" -ge "$2" ] || { sysctl -qw "$1=$2" 2>/dev/null && echo "$1=$now" >>"$HOSTS_OWN/limits"; } || true
}

hosts_begin() {
    mkdir -p "$HOSTS_OWN"
    # Each systemd has a few of these, and all namespaces share one table of neighbours.
    hosts_limit fs.inotify.max_user_instances $((100 + 10 * $1))
    hosts_limit net.ipv4.neigh.default.gc_thresh3 $((1000 + 2 * $1 * $1))
    hosts_limit net.ipv4.neigh.default.gc_thresh2 $((500 + 2 * $1 * $1))
    ip netns add "$HOSTS_NAME"
    ip -n "$HOSTS_NAME" link add bridge type bridge forward_delay 0
    ip -n "$HOSTS_NAME" link set bridge up
    HOSTS_CGROUP=$(hosts_cgroup)
}

host_address() { echo "$HOSTS_NET.$(($1 + 10))"; }
host_dir() { echo "$HOSTS_OWN/$1"; }

host_make() {
    local dir network=$HOSTS_NAME-$1
    dir=$(host_dir "$1")
    mkdir -p "$dir/upper" "$dir/work" "$dir/root"
    mount -t overlay "$HOSTS_NAME-$1" -o "lowerdir=$HOSTS_DIR/base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
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
    while [ $SECONDS -lt $deadline ] && is_running "$(cat "$dir/nspawn")"; do
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
        is_running "$nspawn" || return 0
        sleep 0.1
    done
    kill -KILL "$nspawn"
}

# hosts_end [NAME]: of this run, or of another. By their names alone: it may be the one that made them
# that is missing.
hosts_end() {
    local name=${1:-$HOSTS_NAME} root network limits
    local own=$HOSTS_DIR/$name
    hosts_kill "$name"
    for root in "$own"/*/root; do
        umount "$root" 2>/dev/null || umount --lazy "$root" 2>/dev/null || true
    done
    for network in $(ip netns list | awk -v name="$name" '$1 == name || index($1, name "-") == 1 { print $1 }'); do
        ip netns del "$network" || true
    done
    hosts_cgroups "$name" -type d -exec rmdir {} + 2>/dev/null
    for limits in $(cat "$own/limits" 2>/dev/null); do sysctl -qw "$limits" || true; done
    rm -rf --one-file-system "$own"
}

hosts_sweep() {
    local name
    for name in $({
        ls "$HOSTS_DIR"
        ip netns list
        find /sys/fs/cgroup -type d -name 'groundswell-*' -printf '%f\n'
    } 2>/dev/null | grep -oE '^groundswell-[0-9]+' | sort -u); do
        # This one's own number, too, may have been another's.
        [ "$name" != "$HOSTS_NAME" ] && [ -d "/proc/${name#groundswell-}" ] || hosts_end "$name" ||
            echo "not all that $name has left behind could be taken away" >&2
    done
}
