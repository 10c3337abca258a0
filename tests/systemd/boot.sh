#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# boot.sh [--bind FROM:TO]... [--prepare 'shell code, $root is the new root'] [--limit SECONDS] -- COMMAND...
#
# Start a real systemd as process 1 of its own namespaces and run COMMAND in it as a unit.  Its root
# is this machine's own with a memory file system laid over it: the libraries that the build found
# are there, and nothing that happens inside is kept.  Exit status: the command's; 77 where this
# machine cannot do it; 124 over the limit; 70 where the command left no status.
#
# Every cgroup made here lies below this process's own and is removed again, with whatever is left
# in it; /proc/sys and /sys are read-only inside.
set -euo pipefail
binds=() prepare=: limit=300
while [ $# -gt 0 ]; do
    case $1 in
    --bind) binds+=("$2") && shift 2 ;;
    --prepare) prepare=$2 && shift 2 ;;
    --limit) limit=$2 && shift 2 ;;
    --) shift && break ;;
    *) echo "boot: unknown option $1" >&2 && exit 64 ;;
    esac
done
cannot() { echo "boot: $*" >&2 && exit 77; }
[ "$(id -u)" = 0 ] || cannot "needs root"
[ -x /lib/systemd/systemd ] || cannot "no systemd (package systemd)"
[ -x /usr/bin/dbus-daemon ] || cannot "no dbus-daemon (package dbus)"
unshare --mount --pid --fork --cgroup --uts --ipc --net true 2>/dev/null ||
    cannot "this machine allows no namespaces"

name=octarc-boot-$$-$RANDOM
work=$(mktemp -d /tmp/octarc-boot.XXXXXX)
groups=()  # our directories, one a hierarchy
mounts=()  # "controller|options|name of the mount point", to be mounted again inside
mkdir "$work/top" "$work/out"

end_groups() { # kill what is left in our cgroups, then remove them from the leaves up
    local group try
    for group in "${groups[@]}"; do
        find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    done
    for try in 1 2 3 4 5 6 7 8 9 10; do
        for group in "${groups[@]}"; do
            [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        done
        for group in "${groups[@]}"; do [ ! -d "$group" ] || { sleep 0.1 && continue 2; }; done
        break
    done
}
finish() {
    set +e
    end_groups
    rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

own_group() { # own_group CONTROLLER: this process's path in that hierarchy; "" is version 2
    awk -F: -v want="$1" '(want == "" && $1 == 0) || (want != "" && index("," $2 ",", "," want ",")) {
        print $3; found = 1; exit } END { if (!found) print "/" }' /proc/self/cgroup
}
make_group() { # make_group MOUNT_POINT CONTROLLER OPTIONS
    local parent group
    parent=$1$(own_group "$2")
    group=${parent%/}/$name
    mkdir "$group" 2>/dev/null || return 0
    if [ -z "$2" ]; then
        for controller in cpu io memory pids; do
            echo "+$controller" >"$parent/cgroup.subtree_control" 2>/dev/null || :
        done
    fi
    groups+=("$group")
    mounts+=("$2|$3|$(basename "$1")")
}
while read -r _ where type options _; do
    case $type in
    cgroup2) make_group "$where" "" "$options" ;;
    cgroup)
        for option in ${options//,/ }; do
            case $option in
            name=* | cpu | cpuacct | memory | pids | devices | freezer | blkio)
                make_group "$where" "$option" "$options"
                break
                ;;
            esac
        done
        ;;
    esac
done </proc/self/mounts
[ ${#groups[@]} -gt 0 ] || cannot "no cgroup can be made below this process's own"

{
    echo '#!/bin/bash'
    echo 'export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    printf '%q ' "$@"
    printf '\nstatus=$?\necho $status > /out/status\n'
    printf 'journalctl --no-pager -o short-monotonic > /out/journal 2>&1\nexit $status\n'
} >"$work/command"
chmod 755 "$work/command"

cat >"$work/inside" <<'INSIDE'
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work/top"
mkdir "$work/top/upper" "$work/top/work" "$work/top/root"
root=$work/top/root
mount -t overlay overlay \
    -o "lowerdir=/,upperdir=$work/top/upper,workdir=$work/top/work" "$root"
mkdir -p "$root"/{proc,sys,dev,run,tmp,out,.old,etc/systemd/system,etc/systemd/journald.conf.d}

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
node null 1 3 && node zero 1 5 && node full 1 7 && node random 1 8 && node urandom 1 9 && node tty 5 0
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,mode=620,gid=5,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin" && ln -s fd/1 "$root/dev/stdout" && ln -s fd/2 "$root/dev/stderr"

# The root of each hierarchy is, in this namespace, the group that was made for it.
if [ "$(echo "$mounts" | wc -w)" = 1 ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for entry in $mounts; do
        IFS='|' read -r controller options name <<<"$entry"
        mkdir -p "$root/sys/fs/cgroup/$name"
        case $controller in
        '') mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/$name" ;;
        name=*) mount -t cgroup -o "none,$controller" cgroup "$root/sys/fs/cgroup/$name" ;;
        *) mount -t cgroup -o "$controller" cgroup "$root/sys/fs/cgroup/$name" ;;
        esac
    done
fi

: >"$root/etc/fstab"
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' \
    >"$root/etc/systemd/journald.conf.d/octarc-test.conf"
rm -rf "$root/var/log/journal"
[ -s "$root/etc/machine-id" ] || echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
mount --bind "$work/out" "$root/out"
for bind in $binds; do
    from=${bind%%:*} to=$root${bind#*:}
    if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "$(dirname "$to")" && : >"$to"; fi
    mount --bind "$from" "$to"
done

cp "$work/command" "$root/.octarc-command"
cat >"$root/etc/systemd/system/octarc-test.service" <<UNIT
[Unit]
DefaultDependencies=no
Requires=sysinit.target dbus.socket
After=sysinit.target dbus.socket sockets.target
[Service]
Type=oneshot
ExecStart=/.octarc-command
StandardOutput=append:/out/said
StandardError=append:/out/said
TimeoutStartSec=infinity
ExecStopPost=/bin/systemctl --no-block exit
UNIT
cat >"$root/etc/systemd/system/octarc-test.target" <<UNIT
[Unit]
Requires=sysinit.target dbus.socket octarc-test.service
After=sysinit.target
AllowIsolate=yes
UNIT
eval "$prepare"

cd "$root"
pivot_root . .old
umount -l /.old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd \
    --system --unit=octarc-test.target --log-target=journal --show-status=no </dev/null
INSIDE

: >"$work/out/said"
export work prepare binds_text="${binds[*]-}" mounts_text="${mounts[*]}"
(
    for group in "${groups[@]}"; do
        echo "$BASHPID" >"$group/cgroup.procs" 2>/dev/null || :
    done
    binds=$binds_text mounts=$mounts_text exec timeout -k 5 "$limit" \
        unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net \
        --propagation private bash -c 'binds=$binds_text mounts=$mounts_text; . "$work/inside"'
) >"$work/out/console" 2>&1 &
child=$!
status=0
wait "$child" || status=$?
cat "$work/out/said"
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    echo "boot: over the limit of $limit s" >&2
    exit 124
fi
if [ ! -s "$work/out/status" ]; then
    echo "boot: the command left no status; the console said:" >&2
    tail -n 20 "$work/out/console" >&2
    exit 70
fi
exit "$(cat "$work/out/status")"
