# Does in the staging folder what needs nothing to be sent. Standard input has records that end with NUL:
#   `remove PATH`  `folder PATH`  `MODE PATH`  and pairs of `copy PATH-IN-THE-PREVIOUS-RELEASE` `copy NEW-PATH`
# Arguments: the staging folder, a folder for notes, the previous release's files, all modes that occur.
# May be called again: what is done already stays as it is.
set -eu
LC_ALL=C
export LC_ALL
umask 022
staging=$1 work=$2 previous=$3
shift 3
mkdir -p "$work"
cat >"$work/repair"

# The rest of all records that begin with the word $1.
all() { { grep -az "^$1 " "$work/repair" || true; } | cut -z -d ' ' -f 2-; }

cd "$staging"
all remove | xargs -0 -r rm -rf --
all folder | xargs -0 -r mkdir -p --
if [ -d "$previous" ]; then
    cd "$previous"
    # What cannot be copied is found missing by the next comparison, and sent.
    all copy | xargs -0 -r -n 2 cp -P --reflink=auto -T -- || true
    cd "$staging"
fi
for mode in "$@"; do
    # Five digits, so that a folder loses an inherited set-group-ID bit too.
    all "$mode" | xargs -0 -r chmod "00$mode" -- || true
done
