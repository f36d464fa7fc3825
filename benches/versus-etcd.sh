#!/usr/bin/env bash
# Measures Armilla against etcd in one run on this machine: fetches etcd from Debian into the cache (unpacked, not installed), builds
# the bench, starts three processes of each on loopback, prints the table and cleans up. Takes about three minutes after the build.
#   benches/versus-etcd.sh [--reps 5] [--secs 3] [--only put,get,streams,single,failover]      ETCD=/path/to/etcd uses that one instead
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${ARMILLA_CACHE:-$HOME/.cache/armilla}/etcd
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

fetch() { # SUITE: fetches that release's etcd-server with a separate apt state
  local suite=$1 state=$cache/apt-$1 mirror
  # The mirror that this machine uses for its own release.
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | grep -E "^deb .* $codename main" |
    sed 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/' | head -n 1)
  [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
    awk -v RS= -v want="Suites:([^\n]* )?$codename( |\n|$)" '$0 ~ want' | sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | head -n 1)
  [ -n "$mirror" ] || return 1
  mkdir -p "$state"/{lists/partial,cache/archives/partial,parts}
  echo "deb $mirror $suite main" >"$state/sources.list"
  local apt=(-o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts="$state/parts" -o Dir::State::Lists="$state/lists"
    -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
  apt-get "${apt[@]}" update -qq >&2 || return 1
  (cd "$state" && rm -f etcd-server_*.deb && apt-get "${apt[@]}" download -qq etcd-server >&2 &&
    rm -rf root && dpkg-deb -x etcd-server_*.deb root && rm -f etcd-server_*.deb) || return 1
  "$state/root/usr/bin/etcd" --version >/dev/null 2>&1 || return 1
  echo "$state/root/usr/bin/etcd"
}

if [ -z "${ETCD:-}" ]; then
  for suite in forky trixie "$codename"; do
    found=$cache/apt-$suite/root/usr/bin/etcd
    if [ -x "$found" ] && "$found" --version >/dev/null 2>&1; then ETCD=$found; break; fi
    if ETCD=$(fetch "$suite"); then break; fi
    ETCD=
  done
fi
[ -n "${ETCD:-}" ] || { echo "no etcd: set ETCD=/path/to/etcd" >&2; exit 1; }
# Absolute, because cargo runs benches in the package's folder.
ETCD=$(realpath "$ETCD")
export ETCD
exec timeout 1200 cargo bench --bench versus -- "$@"
