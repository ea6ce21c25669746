#!/usr/bin/env bash
# Installs the peers of the benchmark: Debian's packages (as root), and under target/compare what Debian does not have.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD/target/compare

# program:package
packages=(haproxy:haproxy nginx:nginx socat:socat stunnel4:stunnel4 protoc:protobuf-compiler go:golang-go)
missing=()
for pair in "${packages[@]}"; do
  command -v "${pair%%:*}" >/dev/null || [[ -x /usr/sbin/${pair%%:*} ]] || missing+=("${pair##*:}")
done
[[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] || missing+=(libnginx-mod-stream)
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends --yes -qq "${missing[@]}"
  else
    echo "these packages are missing, and this user cannot install them: ${missing[*]}" >&2
  fi
fi

mkdir -p "$root/bin"
(cd benches/compare/proxies/go && go build -o "$root/bin/go-proxy" .)

# sozu's build needs protoc. rathole's own lock file names a `time` that today's compiler refuses; without its other
# features it needs no OpenSSL.
export CARGO_TARGET_DIR=$root/build
[[ -x $root/bin/sozu ]] || cargo install --locked --root "$root" --version 2.3.3 --features splice sozu
[[ -x $root/bin/rathole ]] ||
  cargo install --root "$root" --version 0.5.0 --no-default-features --features server,client rathole
