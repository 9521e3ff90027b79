# Makes a test host of a fresh root; it runs inside the root, where no unit of systemd runs.
set -e

cat >/etc/initramfs-tools/conf.d/fracas-test <<END
MODULES=list
END
cat >/etc/initramfs-tools/modules <<END
virtio_ring
virtio
virtio_pci
virtio_blk
virtio_console
virtio_net
ext4
END
update-initramfs -u -k all

echo "/dev/vda / ext4 errors=remount-ro 0 1" >/etc/fstab
echo localhost >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
: >/etc/resolv.conf
: >/etc/machine-id
mkdir -p /var/log/journal /media/packages
rm -f /etc/apt/sources.list

# A shell on the serial console.
mkdir -p /etc/systemd/system/serial-getty@ttyS0.service.d
cat >/etc/systemd/system/serial-getty@ttyS0.service.d/login.conf <<END
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - vt220
END
passwd --delete root

# Known from the start, so that a host looks alike before and after its first network fault.
printf '%s\n' nf_tables nft_ct nf_conntrack ifb sch_netem >/etc/modules-load.d/fracas-test.conf

# Timers that change the host while it is watched.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    logrotate.timer man-db.timer systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl enable fracas-test-server.service fracas-test-network.service
rm -f /usr/sbin/policy-rc.d
apt-get clean
rm -rf /var/lib/apt/lists/*
