# `lock` has four lines: owner, token, job, who. Its modification time is when it ends. Everything is decided under
# `flock` on the folder itself, which is free again when its holder dies.
#
# `generation` outlives the lease: the number of times that it was taken anew, and who did that last (owner, job,
# who). A job that goes on after a crash sees by it whether somebody else had the service meanwhile.
#
# `lock.running` names the last command that was started under the lease, so that whoever takes over from a holder
# that cannot be asked can end it.
folder=$1 action=$2 seconds=$3 owner=$4 token=$5 job=$6 who=$7 expected=$8
umask 022
# Whether it is there, and then what it is: another deployer may be making it.
if [ "$action" = take ] && { [ -e "$folder" ] || [ -L "$folder" ]; } && [ ! -d "$folder" ]; then
  echo 'foreign file'
  exit 0
fi
cd -- "$folder" 2>/dev/null || {
  [ "$action" = take ] || { printf 'lost\n\n\n'; exit 0; }
  mkdir -p -- "$folder" && cd -- "$folder" || exit 20
}
# A folder that other tools, too, call `releases` or `env` is a mark only with a name in it that a deployer gives.
marked() {
  for mark in lock lock.new generation generation.new live.json records releases/[0-9]*-[0-9]*-[0-9]* env/[0-9]*-[0-9]*-[0-9]*; do
    [ ! -e "$mark" ] || return 0
  done
  return 1
}
command -v flock >/dev/null 2>&1 || exit 21
exec 9<. && flock -w 10 9 || exit 22
# Only now: another deployer may be making the folder its own at this moment.
if [ "$action" = take ] && ! marked; then
  found=$(ls -A | grep -vx 'lost+found' | head -n 6)
  [ -z "$found" ] || { echo 'foreign folder'; printf '%s\n' "$found"; exit 0; }
fi
[ -w . ] || exit 20
o= t= j= w= e=0 now=$(date +%s)
if [ -f lock ]; then
  { IFS= read -r o; IFS= read -r t; IFS= read -r j; IFS= read -r w; } <lock
  e=$(stat -c %Y lock) || exit 23
fi
until=$((now + seconds))
case $action in
take)
  n=0 go= gj= gw=
  if [ -f generation ]; then
    { IFS= read -r n; IFS= read -r go; IFS= read -r gj; IFS= read -r gw; } <generation
  fi
  case $n in '' | *[!0-9]*) n=0 go= gj= gw= ;; esac
  again=
  [ "$n" -gt 0 ] && [ "$go" = "$owner" ] && [ "$gj" = "$job" ] && again=1
  if [ -n "$expected" ] && [ "$n" -gt 0 ] && [ -z "$again" ]; then
    printf 'passed\n%s\n%s\n' "$gj" "$gw"
    exit 0
  fi
  if [ -n "$t" ] && [ "$o" != "$owner" ] && [ "$e" -gt "$now" ]; then
    printf 'held %s %s\n%s\n%s\n' "$e" "$now" "$j" "$w"
    exit 0
  fi
  number=$n
  [ -n "$again" ] || number=$((n + 1))
  # Only grows, even where the file was lost.
  [ -z "$expected" ] || [ "$number" -ge "$expected" ] || number=$expected
  # Both are written before either is put in its place: on a full disk, neither changes.
  if { [ "$number" = "$n" ] || printf '%s\n' "$number" "$owner" "$job" "$who" >generation.new; } &&
     printf '%s\n' "$owner" "$token" "$job" "$who" >lock.new && touch -d "@$until" lock.new; then
    [ "$number" = "$n" ] || { sync generation.new 2>/dev/null; mv -f generation.new generation; } || exit 23
    mv -f lock.new lock || exit 23
  elif [ "$number" = "$n" ] && [ -n "$t" ] && [ "$o" = "$owner" ]; then
    # Our own from before, on a full disk: as good.
    rm -f lock.new; token=$t; touch -d "@$until" lock || exit 23
  else
    rm -f lock.new generation.new; exit 23
  fi
  if [ -n "$t" ] && [ "$o" != "$owner" ]; then
    printf 'ours %s %s %s after\n%s\n%s\n%s\n%s\n%s\n' "$token" "$number" "$n" "$go" "$gj" "$gw" "$j" "$w"
    [ ! -f lock.running ] || cat lock.running
  else
    printf 'ours %s %s %s\n%s\n%s\n%s\n' "$token" "$number" "$n" "$go" "$gj" "$gw"
  fi ;;
keep)
  if [ "$t" = "$token" ]; then
    touch -d "@$until" lock || exit 23
    echo ours
  else
    # Whoever took the lease may have given it up by now, and is named by the generation.
    if [ -z "$t" ] && [ -f generation ]; then
      { IFS= read -r n; IFS= read -r go; IFS= read -r gj; IFS= read -r gw; } <generation
      [ "$go" = "$owner" ] || { j=$gj w=$gw; }
    fi
    printf 'lost\n%s\n%s\n' "$j" "$w"
  fi ;;
give-up)
  { [ "$t" != "$token" ] && [ "$o" != "$owner" ]; } || rm -f lock lock.running || exit 23
  echo free ;;
esac
