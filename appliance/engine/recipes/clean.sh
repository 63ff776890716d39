# Runs on the host, on a fresh system before it becomes an image. Argument: its root.
set -e
root=$1
# This host's resolver and name, and the way it reaches its mirrors, are nobody else's.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/apt/apt.conf.d/99mmdebstrap"
find "$root/etc/apt" -type f \( -name '*.list' -o -name '*.sources' \) -exec sed -E -i 's,(://)[^/@ ]+@,\1,' {} +
# In a container pip may install beside the distribution's packages: nothing else manages them there.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
echo 'path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED' >"$root/etc/dpkg/dpkg.cfg.d/appliance"
# Documentation other than the licences.
rm -rf "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/var/log/apt "$root"/var/log/dpkg.log
find "$root/usr/share/doc" -type f ! -name copyright -delete
