# Sets eth0 up with the addresses of `fracas.address=ADDRESS,...` on the kernel's command line.
set -e
for word in $(cat /proc/cmdline); do
    case "$word" in
    fracas.address=*) addresses=$(echo "${word#*=}" | tr ',' ' ') ;;
    esac
done
tries=0
until [ -e /sys/class/net/eth0 ] || [ $tries -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.2
done
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra
for address in $addresses; do
    ip address replace "$address" dev eth0
done
ip link set eth0 up
