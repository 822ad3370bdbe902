# Says what Validation wants to know of the target, a line for each fact: a word, TAB, the fact.
# Arguments: the service's folder, the port, the service's name. Changes nothing.
#
# What belongs to the service is found out here, and marked `own` or `other`.
root=$1 port=$2 service=$3
LC_ALL=C
export LC_ALL

say() { printf '%s\t%s\n' "$1" "$2"; }

# The unit is the service's if it has the tool's mark, for this folder: anybody may use its name.
whose_unit() {
    file=/etc/systemd/system/$1 whose=other
    if [ "$1" = "deployer-$service.service" ] && [ -f "$file" ] && [ ! -L "$file" ] &&
        grep -qxF "X-Deployer-Service=$service" "$file"; then
        case $(sed -n 's/^WorkingDirectory=//p' "$file" | head -n 1 | sed 's/%%/%/g') in
        "$root/releases/"*) whose=own ;;
        esac
    fi
    echo "$whose"
}

# A container is the service's if it names itself in a label that its image does not have, or if an earlier
# deployer's launch of it is kept: labels are handed on from images. Prints `own NAME` or `other NAME`.
whose_container() {
    docker container inspect --format '{{.Name}} {{.Image}}
{{index .Config.Labels "io.deployer.service"}}
{{index .Config.Labels "io.deployer.release"}}
{{index .Config.Labels "io.deployer.container"}}
{{index .Config.Labels "io.deployer.root"}}' "$1" 2>/dev/null | {
        read -r name image
        read -r of
        read -r release
        read -r itself
        read -r folder
        name=${name#/} whose=other made_as=$service-$release
        if [ "$of" = "$service" ] && [ -n "$release" ] && [ "${name%-failed}" = "$made_as" ]; then
            if [ -n "$itself" ]; then
                inherited=$(docker image inspect --format '{{index .Config.Labels "io.deployer.container"}}' \
                    "$image" 2>/dev/null)
                [ "$itself" != "$made_as" ] || [ "$inherited" = "$itself" ] || [ "$folder" != "$root" ] || whose=own
            elif [ -f "$root/docker/$release.json" ] &&
                ! grep -qF 'io.deployer.container=' "$root/docker/$release.json"; then
                whose=own
            fi
        fi
        [ -z "$name" ] || printf '%s %s\n' "$whose" "$name"
    }
}

# Tools are tried, not looked up: a small system has them without the options that a transfer needs.
try() {
    tool=$1
    shift
    "$@" >/dev/null 2>&1 </dev/null || say lacks "$tool"
}
has() { "$1" --help 2>&1 | grep -q -e "$2"; }

say system "$(uname -s)"
say user "$(id -un 2>/dev/null || id -u)"
try 'sort -z' sort -z
try 'comm -z' comm -z /dev/null /dev/null
try 'cut -z' cut -z -b 1
try 'sed -z' sed -z p
try 'grep -az' sh -c 'printf "x\0" | grep -az x'
try 'sha256sum --zero' sha256sum --zero
try 'find -printf' find / -maxdepth 0 -printf ''
try 'xargs -0' sh -c 'printf "x\0" | xargs -0 -r -n 2 true'
try 'cp --reflink' has cp --reflink
try 'cp --parents' has cp --parents
try 'mv -T' has mv --no-target-directory
try 'sync -f' has sync --file-system

near=$root
while [ ! -e "$near" ] && [ "$near" != / ]; do near=$(dirname "$near"); done
say near "$near"
if [ ! -d "$near" ]; then
    say unwritable "$near: it is not a folder"
elif [ ! -w "$near" ] || [ ! -x "$near" ]; then
    say unwritable "$near"
fi
for folder in "$root/releases" "$root/manifests" "$root/env"; do
    [ ! -e "$folder" ] || [ -w "$folder" ] || say unwritable "$folder"
done
# Which release is live, by a link that this tool made.
if [ -L "$root/current" ]; then
    to=$(readlink "$root/current")
    case ${to#"$root/"} in
    releases/?*) ;;
    *) say astray "it leads to $to" ;;
    esac
elif [ -e "$root/current" ]; then
    say astray "it is not a link"
fi
say free "$(df -Pk "$near" 2>/dev/null | tail -n 1 | sed 's/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/')"

# Whoever listens at the port. The kernel's own table is there without any tool.
hex=$(printf %04X "$port")
sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _ _ _ uid _ inode _; do
    case $local:$state in *:"$hex":0A) echo "$uid $inode" ;; esac
done)
printf '%s\n' "$sockets" | while read -r uid inode; do
    [ -z "$uid" ] || say listener "$(id -nu "$uid" 2>/dev/null || echo "$uid")"
done
groups=
pids=$(printf '%s\n' "$sockets" | while read -r _ inode; do
    [ -z "$inode" ] || find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null
done | cut -d / -f 3 | sort -nu | head -n 20)
# Of a process that may not be looked into, the unit is known all the same; so is the process, where it is the
# only one there.
[ -z "$sockets" ] || [ -n "$pids" ] ||
    groups=$(ss -Hltne "sport = :$port" 2>/dev/null | grep -o 'cgroup:[^ ]*\.service' | cut -d : -f 2- | sort -u)
for group in $groups; do
    members=$(cat "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/unified$group/cgroup.procs" 2>/dev/null)
    case $members in
    '' | *[!0-9]*) say listening "$(whose_unit "${group##*/}") ${group##*/}" ;;
    *) pids="$pids $members" ;;
    esac
done

docker=
[ -z "$sockets" ] || ! command -v docker >/dev/null 2>&1 || docker=docker
for pid in $pids; do
    say holder "$pid $(cat "/proc/$pid/comm" 2>/dev/null)"
    unit=$(grep -o '[^/]*\.service' "/proc/$pid/cgroup" 2>/dev/null | tail -n 1)
    [ -z "$unit" ] || say unit "$pid $(whose_unit "$unit") $unit"
    # Its session, and the processes above it: what a pid file may name.
    kin=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 4)
    above=$pid
    while [ -n "$above" ] && [ "$above" -gt 1 ]; do
        kin="$kin $above"
        above=$(sed 's/.*) //' "/proc/$above/stat" 2>/dev/null | cut -d ' ' -f 2)
    done
    say kin "$pid $kin"
    container=$(grep -o '[0-9a-f]\{64\}' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
    if [ -n "$docker" ] && [ -n "$container" ]; then
        whose_container "$container" | while read -r named; do say within "$pid $named"; done
    fi
done
if [ -n "$docker" ]; then
    for container in $(docker ps --quiet --no-trunc --filter "publish=$port/tcp" 2>/dev/null); do
        whose_container "$container" | while read -r named; do say published "$named"; done
    done
fi
for file in "$root"/run/*.pid; do
    [ -f "$file" ] || continue
    number= began=
    read -r number began _ <"$file" 2>/dev/null || [ -n "$number" ] || continue
    # Another process may have the number of one that has ended.
    now=$(sed 's/.*) //' "/proc/$number/stat" 2>/dev/null | cut -d ' ' -f 20)
    [ -n "$began" ] && [ -n "$now" ] && [ "$now" != "$began" ] || say noted "$number"
done
exit 0
