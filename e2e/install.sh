#!/bin/bash
# Installs the mail programs that the tests of this folder drive, where they
# are missing. Needs Debian (or a relative) and the right to install packages.
set -euo pipefail

packages=(
	curl isync neomutt interimap offlineimap3 getmail6 fetchmail imapfilter
	libmail-imapclient-perl libio-socket-ssl-perl python3 swaks tmux
)

missing=()
for p in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "e2e: this machine has no apt-get; install these by hand: ${missing[*]}" >&2
	exit 1
fi
root=()
if [ "$(id -u)" != 0 ]; then
	root=(sudo)
fi
echo "e2e: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3; do
	if "${root[@]}" apt-get -q update >/dev/null &&
		"${root[@]}" apt-get -q install -y --no-install-recommends "${missing[@]}" >/dev/null; then
		exit 0
	fi
	echo "e2e: installing failed (try $try of 3)" >&2
	sleep $((try * 5))
done
exit 1
