# Compares the release's folder with its manifest, and gives it its final name when the two are equal.
# Prints a line for people and programs, `STATE TAKEN`: how many files came from the previous release, and
#   whole   nothing differs: the release is at its final place
#   part    what follows differs
#   empty   nothing is in the folder yet: all of the manifest is missing
#   large   what follows is too much for standard output: it is in $work/report
# Then, in base64 (a path may have any bytes), records that end with NUL:
#   a record of the manifest          it is missing in the folder
#   TAB and such a record             the folder has it, the manifest does not
#   `from ` and a file's record       a missing file's content is in the previous release, under that path
# In its first round it reads the manifest from standard input, and takes from the previous release what that
# has under the same paths.
#
# May be called again, and after being cut anywhere: nothing has the final name before it was compared.
set -eu
LC_ALL=C
export LC_ALL
umask 022
final=$1 staging=$2 manifest=$3 work=$4 previous=$5 previous_manifest=$6 round=$7
releases=$(dirname "$final")
manifests=$(dirname "$manifest")

# What is there, in the manifest's form. $1: a folder.
scan() {
    {
        (cd "$1" && find . -type f -perm 644 -o -type l -printf 'l %p//%l\0' -o -printf '%y %m %p\0')
        (cd "$1" && find . -type f -print0 | xargs -0 -r sha256sum --zero --)
    } | sort -z >"$work/seen"
}

count() { tr -cd '\0' <"$1" | wc -c; }
hashes() { grep -az '^[0-9a-f]\{64\}  '; }

# What an earlier, cut transfer brought of another release is as good a start as any: all of it is compared.
# Its manifest was there before it: what has none was not brought by a transfer.
adopt() {
    for left in "$releases"/.*.partial; do
        [ -d "$left" ] && [ ! -L "$left" ] && [ "$left" != "$staging" ] || continue
        name=${left##*/.}
        [ -f "$manifests/${name%.partial}" ] || continue
        if [ -e "$staging" ]; then rm -rf "$left"; else mv -T "$left" "$staging"; fi
    done
    mkdir -p "$staging"
    # So that nothing is written through a link that is no longer wanted.
    find "$staging" -type l -delete
}

# A running service may have written into its files. So this is only where to look: all is compared later.
take() {
    [ -f "$previous_manifest" ] && [ -d "$previous" ] || return 0
    scan "$staging"
    comm -z -23 "$manifest" "$work/seen" | comm -z -12 - "$previous_manifest" >"$work/common"
    hashes <"$work/common" | cut -z -b 67- >"$work/taken"
    { grep -az '^l ' "$work/common" || true; } | sed -z 's|//.*||; s|^l ||' >"$work/links"
    cd "$staging"
    { grep -az '^d ' "$work/common" || true; } | sed -z 's|^d [0-7]* ||' | xargs -0 -r mkdir -p -- || true
    cd "$previous"
    cat "$work/taken" "$work/links" |
        xargs -0 -r cp -P --reflink=auto --preserve=mode --parents -t "$staging" -- || true
    cd /
}

publish() {
    sync -f "$1"
    [ "$1" = "$final" ] || mv -T "$1" "$final"
    for kept in "$manifests"/*; do
        [ -e "$releases/${kept##*/}" ] || rm -f "$kept"
    done
    echo "whole $(count "$work/taken")"
    rm -rf "$manifests"/.[!.]*
    exit 0
}

# Says what differs in the folder $1, or publishes it.
compare() {
    scan "$1"
    comm -z -3 "$manifest" "$work/seen" >"$work/differences"
    [ -s "$work/differences" ] || publish "$1"
}

report() {
    [ "$1" = empty ] || cat "$work/differences"
    if [ "$round" = 1 ] && [ -f "$previous_manifest" ]; then
        comm -z -23 "$manifest" "$work/seen" | hashes | cut -z -b -64 | tr '\0' '\n' |
            grep -azF -f - "$previous_manifest" | sed -z 's/^/from /'
    fi
}

if [ -e "$final" ] || [ -L "$final" ]; then
    if [ ! -f "$manifest" ]; then
        echo "$final already exists, and this tool did not create it: rename it, and deploy again" >&2
        exit 1
    fi
fi
mkdir -p "$releases" "$work"
: >>"$work/taken"
if [ "$round" = 1 ]; then
    : >"$work/taken"
    cat >"$work/manifest"
    mv -T "$work/manifest" "$manifest"
fi
if [ -e "$final" ]; then
    compare "$final"
    rm -rf "$staging"
    mv -T "$final" "$staging"
elif [ "$round" = 1 ]; then
    adopt
    take
fi
mkdir -p "$staging"
compare "$staging"
state=part
[ -n "$(find "$staging" -mindepth 1 -print -quit)" ] || state=empty
report "$state" | base64 -w 0 >"$work/report"
if [ "$(wc -c <"$work/report")" -gt 1000000 ]; then
    echo "large $(count "$work/taken")"
else
    echo "$state $(count "$work/taken")"
    cat "$work/report"
fi
