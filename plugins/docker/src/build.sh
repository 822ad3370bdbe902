# Runs a build: a label, the name of a label that only whole images have, then the docker client and its arguments. Its input is the build's, and both of the
# build's streams are one, so that the lines stay in order: the builders write some to each.
#
# The classic builder makes an image of each line. When the build is ended from outside, the last ones are left
# without a name: they have the label, and go too. What was there before stays, for it is a cache. So does what
# somebody else builds meanwhile from a release of this service: that has a whole image's label.
label=$1 whole=$2
shift 2
docker=$1
unnamed() { "$docker" images --quiet --no-trunc --filter dangling=true --filter "label=$1"; }
before=$(unnamed "$label")

end() {
    trap '' TERM INT HUP
    wait "$build"
    # The engine ends its part a moment later. Whoever ends this waits for two seconds.
    removed= tries=0
    while [ -z "$removed" ] && [ "$tries" -lt 12 ]; do
        others=$(unnamed "$whole")
        for image in $(unnamed "$label"); do
            case $before$others in
            *"$image"*) ;;
            *) "$docker" rmi "$image" >/dev/null 2>&1 && removed=yes ;;
            esac
        done
        tries=$((tries + 1))
        sleep 0.1
    done
    exit 143
}
trap end TERM INT HUP

# What runs in the background has no input unless it is given one.
exec 3<&0
"$@" <&3 3<&- 2>&1 &
build=$!
wait "$build"
