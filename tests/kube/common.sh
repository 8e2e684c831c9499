# shellcheck shell=bash
# Functions of `up`, `node` and `down`: processes identified by id and start time, credentials, and the two programs of an
# API server with an explanation of every flag. `dir` is the cluster's folder, `bin` that of the programs.
: "${dir:?}" "${bin:=}"

say() { # also keeps the message, for the report of a failure
  last=$*
  printf "%(%T)T kube: %s\n" -1 "$last" >&2
}
eventually() { # SECONDS COMMAND...: until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { say "timed out: $*" && return 1; }
    sleep 0.1
  done
}

# --- processes: an id can be reused, so the start time is part of the identity ----------------------------------------
start() { # NAME COMMAND...: in the background, output to log/NAME.log, recorded in pids/NAME
  local name=$1
  shift
  "$@" >>"$dir/log/$name.log" 2>&1 </dev/null &
  echo "$! $(cut -d' ' -f22 "/proc/$!/stat")" >"$dir/pids/$name"
}
alive() { # PID START: that very process, and not only waiting to be reaped
  local state born
  read -r state born < <(cut -d' ' -f3,22 "/proc/$1/stat" 2>/dev/null) && [ "$born" = "$2" ] && [ "$state" != Z ]
}
stop() { # NAME: at once; what the programs would save is thrown away, and a polite stop of the API server takes seconds
  local pid born
  [ -f "$dir/pids/$1" ] || return 0
  read -r pid born <"$dir/pids/$1"
  for _ in {1..200}; do
    alive "$pid" "$born" || return 0
    kill -KILL "$pid" 2>/dev/null || true
    sleep 0.05
  done
  say "process $pid ($1) does not end" && return 1
}

# --- credentials: one static token per user, one key for service accounts --------------------------------------------
credentials() {
  local user n=0 mask
  mkdir -p "$dir"/{pki,log,pids,etc}
  mask=$(umask) && umask 077
  openssl genrsa -out "$dir/pki/sa.key" 2048 2>/dev/null
  # token,user,uid[,groups]; system:masters passes every check of RBAC, the others get the rights Kubernetes ships.
  for user in admin=system:masters system:kube-controller-manager system:kube-scheduler system:kube-proxy \
    system:node:node=system:nodes; do
    n=$((n + 1))
    [[ $user == *=* ]] && user="${user%=*},$n,${user#*=}" || user=$user,$n
    echo "$(head -c16 /dev/urandom | od -An -tx1 | tr -d ' \n'),$user"
  done >"$dir/pki/tokens.csv"
  umask "$mask" # what containerd unpacks must be readable
}
kubeconfig() { # FILE USER URL
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: sluice, cluster: {server: "$3", certificate-authority-data: $(base64 -w0 <"$dir/pki/ca.crt")}}]
users: [{name: "$2", user: {token: $(grep ",$2," "$dir/pki/tokens.csv" | cut -d, -f1)}}]
contexts: [{name: sluice, context: {cluster: sluice, user: "$2"}}]
current-context: sluice
YAML
}

# --- etcd and the API server, started together: the second waits for the first ---------------------------------------
control_plane() { # ETCD_PORT PEER_PORT ADDRESS PORT SERVICES FLAG...
  local etcd=http://127.0.0.1:$1 peer=http://127.0.0.1:$2 address=$3 port=$4 services=$5
  shift 5
  # --unsafe-no-fsync: the data folder is deleted after the test, so etcd need not wait for the disk.
  start etcd "$bin/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$etcd" --advertise-client-urls "$etcd" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer"
  # --cert-dir            the server writes apiserver.crt there: its certificate, then the CA that it generated
  # --service-account-*   required; one key signs and verifies, the issuer is only a name
  # --token-auth-file     the users above, as bearer tokens
  # --authorization-mode  RBAC as in every cluster, Node for the kubelet's own objects
  # --allow-privileged    as in every cluster; kept so that manifests behave the same
  start kube-apiserver "$bin/kube-apiserver" --etcd-servers "$etcd" --cert-dir "$dir/pki" \
    --bind-address "$address" --secure-port "$port" --service-cluster-ip-range "$services" \
    --service-account-key-file "$dir/pki/sa.key" --service-account-signing-key-file "$dir/pki/sa.key" \
    --service-account-issuer https://kubernetes.default.svc --token-auth-file "$dir/pki/tokens.csv" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged --profiling=false "$@"
}
control_plane_ready() { # URL
  local pid born
  read -r pid born <"$dir/pids/kube-apiserver"
  for _ in {1..600}; do
    if curl -ksf --noproxy '*' --max-time 2 -o /dev/null "$1/readyz"; then
      # Clients and the controller manager want the CA alone: the second certificate of the file.
      # `up` and the node both come here at the same time, and the other one may be reading it.
      awk '/BEGIN CERT/ {n++} n == 2' "$dir/pki/apiserver.crt" >"$dir/pki/ca.crt.$$"
      mv "$dir/pki/ca.crt.$$" "$dir/pki/ca.crt"
      return
    fi
    [ "${2:-}" = elsewhere ] || alive "$pid" "$born" || break
    sleep 0.1
  done
  say "the API server does not get ready; the end of $dir/log/kube-apiserver.log:"
  tail -n 5 "$dir/log/kube-apiserver.log" >&2
  return 1
}
