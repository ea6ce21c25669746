#!/usr/bin/env bash
# Runs every test. The tests speak to real programs; what is missing is installed where that is allowed (root on
# Debian), and named where it is not.
set -euo pipefail
cd "$(dirname "$0")/.."

# program:package. Go answers for itself in the test of patterns, and has a client (1.19 is enough for that).
# Their services are not started where a policy says so; the tests never use the default ports.
needed=(curl:curl python3:python3 socat:socat openssl:openssl cc:gcc go:golang-go haproxy:haproxy knotd:knot epmd:erlang-base etcd:etcd-server etcdctl:etcd-client protoc:protobuf-compiler)
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[[ -f /usr/include/google/protobuf/descriptor.proto ]] || missing+=(libprotobuf-dev)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends --yes -qq "${missing[@]}"
  else
    echo "the tests need these packages, and this user cannot install them: ${missing[*]}" >&2
    exit 1
  fi
fi

# Debian's may be older than the dialect: the test against it is then skipped where nobody sees it.
go=$(go env GOVERSION 2>/dev/null || go version)
if [[ ! $go =~ go1\.([0-9]+) ]] || ((BASH_REMATCH[1] < 26)); then
  echo "skipped: the test of patterns against Go's own regexp needs Go 1.26, and here is ${go}" >&2
fi

# Draws requests to the admin API from docs/openapi.yaml; with its own Python packages, beside what cargo builds.
schemathesis=${CARGO_TARGET_DIR:-target}/schemathesis
if [[ ! -x $schemathesis/bin/schemathesis ]]; then
  python3 -m venv "$schemathesis"
  "$schemathesis/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4.32,<5'
fi

exec cargo test --locked --all-features "$@"
