# Leaves out what an image does not need. Arguments: Python packages whose own tests go. CACHE: the build's cache.
set -e
packages=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for name in "$@"; do
    find "$packages/$name" -type d -name tests -prune -exec rm -rf {} +
done
# Compiled once here instead of at every first import; a file that is no valid Python is no reason to stop.
python3 -m compileall -q -j 0 "$packages" >/dev/null 2>&1 || true
rm -rf "$CACHE" /tmp/* /tmp/.[!.]* /root/.cache
