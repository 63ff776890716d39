# Adds packages to a Debian-based image. Arguments: packages. APT_FLAGS: how this host reaches its mirrors.
set -e
export DEBIAN_FRONTEND=noninteractive
python3 -c 'import ssl, sqlite3, venv' 2>/dev/null || set -- "$@" $PYTHON_PACKAGES
apt-get $APT_FLAGS update
apt-get $APT_FLAGS install -y --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
