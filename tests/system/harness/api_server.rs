//! A real API server: etcd and kube-apiserver on loopback, as unprivileged processes, with our definitions applied.
//! `programs` starts the operator and the proxies that use it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::objects::Space;
use super::process::{Process, folder, port};
use super::{documents, repository};
use sluice_kit::{SOON, until as eventually};

/// The namespace of the ServiceAccounts of the operator and the proxies.
pub(crate) const SYSTEM: &str = "sluice-system";
const AUDIT_POLICY: &str = "audit-policy.json";
const AUDIT_LOG: &str = "audit.log";

/// etcd and kube-apiserver with their folder.
#[derive(Debug)]
pub(crate) struct ApiServer {
    programs: PathBuf,
    pub(crate) folder: PathBuf,
    flags: Vec<String>,
    url: String,
    token: String,
    // Dropped in this order: the API server first.
    server: Option<Process>,
    _etcd: Process,
}

impl ApiServer {
    /// The server that tests share; they do not stop it.
    pub(crate) async fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start("shared")).await
    }

    /// A separate server, ready, with our definitions and the programs' ServiceAccounts. Takes about four seconds.
    pub(crate) async fn start(name: &str) -> anyhow::Result<Self> {
        let programs = build("api")?;
        let folder = folder(name)?;
        let (etcd_url, peer_url) = (loopback("http", port()?), loopback("http", port()?));
        let etcd_flags = [
            format!("--data-dir={}", folder.join("etcd").display()),
            // The data is deleted after the tests, so etcd need not wait for the disk.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
        ];
        let etcd = Process::start("etcd", &programs.join("etcd"), &etcd_flags, &folder)?;
        let secure = port()?;
        std::fs::write(
            folder.join(AUDIT_POLICY),
            json!({
                "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                "rules": [
                    {"level": "Metadata", "users": [format!("system:serviceaccount:{SYSTEM}:sluice-operator")]},
                    {"level": "None"},
                ],
            })
            .to_string(),
        )?;
        let token = credentials(&folder)?;
        let flags = flags(&folder, &etcd_url, secure);
        let url = loopback("https", secure);
        let mut server = Self { programs, folder, flags, url, token, server: None, _etcd: etcd };
        server.resume().await?;
        server.install().await?;
        Ok(server)
    }

    /// Ends the API server, as a crash would; etcd keeps the objects.
    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// Starts the API server and waits until it is ready.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        let program = self.programs.join("kube-apiserver");
        let server = self.server.insert(Process::start("kube-apiserver", &program, &self.flags, &self.folder)?);
        let server = &*server;
        let (folder, url, token) = (&self.folder, &self.url, &self.token);
        eventually("kube-apiserver is ready", Duration::from_secs(120), || async move {
            server.check()?;
            // The first certificate in that file is its own, the second is the CA that it generated.
            let pem = std::fs::read_to_string(folder.join("pki/apiserver.crt"))?;
            let (_, ca) = pem
                .match_indices("-----BEGIN CERTIFICATE-----")
                .nth(1)
                .and_then(|(at, _)| pem.split_at_checked(at))
                .context("no CA yet")?;
            std::fs::write(folder.join("ca.crt"), ca)?;
            let file = folder.join("kubeconfig");
            write_kubeconfig(&file, folder, url, token)?;
            client(&file).await?.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// A client with every right. One per case: its connections belong to the case's runtime.
    pub(crate) async fn client(&self) -> anyhow::Result<kube::Client> {
        client(&self.folder.join("kubeconfig")).await
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The audit log of the operator's requests.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join(AUDIT_LOG)
    }

    /// Runs `kubectl` and returns its output.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(self.programs.join("kubectl"))
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .args(arguments)
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "kubectl {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A kubeconfig of the operator's ServiceAccount: it has the permissions of the chart and no others.
    pub(crate) async fn operator_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let token = self.service_account_token("sluice-operator", &[]).await?;
        let file = self.folder.join("operator.kubeconfig");
        write_kubeconfig(&file, &self.folder, &self.url, &token)?;
        Ok(file)
    }

    /// A token of a ServiceAccount in [`SYSTEM`], as a projected volume would hold it.
    pub(crate) async fn service_account_token(&self, name: &str, audiences: &[&str]) -> anyhow::Result<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client().await?, SYSTEM);
        let spec = TokenRequestSpec {
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
            expiration_seconds: Some(7200),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let response = api.create_token_request(name, &PostParams::default(), &request).await?;
        Ok(response.status.context("no token in the response")?.token)
    }

    async fn install(&self) -> anyhow::Result<()> {
        let space = Space::new(self.client().await?, SYSTEM).await?;
        let mut definitions = documents("crds/manifests")?;
        definitions.push(reference_grant()?);
        for definition in &definitions {
            space.apply(definition).await?;
        }
        for definition in &definitions {
            established(&space, definition["metadata"]["name"].as_str().unwrap_or_default()).await?;
        }
        for name in ["sluice-operator", "sluice-proxy"] {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
            space.apply(&account).await?;
        }
        let file = repository().join("charts/sluice/files/operator-rules.yaml");
        let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
        space
            .apply(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "sluice-operator"}, "rules": rules,
            }))
            .await?;
        space
            .apply(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "sluice-operator"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sluice-operator"},
                "subjects": [{"kind": "ServiceAccount", "name": "sluice-operator", "namespace": SYSTEM}],
            }))
            .await?;
        Ok(())
    }
}

async fn established(space: &Space, name: &str) -> anyhow::Result<()> {
    eventually(format!("{name} is established"), SOON, || async {
        let object = space.get_of("apiextensions.k8s.io/v1", "CustomResourceDefinition", name).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let established = conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True");
        anyhow::ensure!(established, "its conditions are {conditions:?}");
        let kind = object["spec"]["names"]["kind"].as_str().context("no kind")?;
        let (group, version) = (&object["spec"]["group"], &object["spec"]["versions"]);
        let version =
            version.as_array().and_then(|versions| versions.iter().find(|version| version["storage"] == true));
        let version = version.and_then(|version| version["name"].as_str()).context("no version")?;
        space.list_of(&format!("{}/{version}", group.as_str().unwrap_or_default()), kind).await?;
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// The folder of a set of programs of `tests/kube/build`; built the first time.
pub(crate) fn build(set: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new(repository().join("tests/kube/build")).arg(set).stderr(Stdio::inherit()).output()?;
    let stdout = String::from_utf8(output.stdout)?;
    anyhow::ensure!(output.status.success(), "tests/kube/build {set} failed; the reason is above");
    Ok(PathBuf::from(stdout.lines().last().context("tests/kube/build printed no folder")?))
}

/// The definition of ReferenceGrant as Gateway API publishes it.
fn reference_grant() -> anyhow::Result<Value> {
    let output = Command::new(repository().join("tests/gateway-api/crds")).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "tests/gateway-api/crds failed; the reason is above");
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let file = folder.join("gateway.networking.k8s.io_referencegrants.yaml");
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(file)?)?)
}

/// The keys of ServiceAccount tokens and the administrator's token, which is returned.
fn credentials(folder: &Path) -> anyhow::Result<String> {
    let pki = folder.join("pki");
    std::fs::create_dir(&pki)?;
    let key = rcgen::KeyPair::generate()?;
    std::fs::write(pki.join("sa.key"), key.serialize_pem())?;
    std::fs::write(pki.join("sa.pub"), key.public_key_pem())?;
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token = format!("{:032x}", u128::from_be_bytes(random));
    std::fs::write(pki.join("tokens.csv"), format!("{token},admin,1,system:masters\n"))?;
    Ok(token)
}

/// `tests/kube/common.sh` explains them.
fn flags(folder: &Path, etcd: &str, port: u16) -> Vec<String> {
    let pki = folder.join("pki");
    vec![
        format!("--etcd-servers={etcd}"),
        format!("--cert-dir={}", pki.display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // Must not be loopback, and is not used without an endpoint reconciler.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki.join("sa.pub").display()),
        format!("--service-account-signing-key-file={}", pki.join("sa.key").display()),
        format!("--token-auth-file={}", pki.join("tokens.csv").display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        "--profiling=false".to_owned(),
        format!("--audit-policy-file={}", folder.join(AUDIT_POLICY).display()),
        format!("--audit-log-path={}", folder.join(AUDIT_LOG).display()),
    ]
}

fn loopback(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}")
}

fn write_kubeconfig(file: &Path, folder: &Path, url: &str, token: &str) -> anyhow::Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {
            "server": url, "certificate-authority": folder.join("ca.crt"),
        }}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    });
    Ok(std::fs::write(file, config.to_string())?)
}

async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
