//! The operator and the proxies as processes, configured as the charts configure them.
//! The tests apply the objects that they serve.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::OnceCell;

use super::api_server::{ApiServer, SYSTEM};
use super::process::{Process, port};
use sluice_kit::Response;
use sluice_kit::client::{Call, get};
use sluice_kit::tls::{Issued, issue};
use sluice_kit::{SOON, until as eventually};

/// From the start of a program until it is ready.
const READY: Duration = Duration::from_secs(60);
const AUDIENCE: &str = "sluice-operator";

/// One operator and its proxies on an API server.
pub(crate) struct Fleet {
    pub(crate) operator: Operator,
    pub(crate) proxies: Vec<Proxy>,
    /// The certificate of the operator.
    pub(crate) issued: Issued,
}

/// The operator; running or stopped.
pub(crate) struct Operator {
    folder: PathBuf,
    flags: Vec<String>,
    admin: SocketAddr,
    /// The address of its token service.
    pub(crate) sts: SocketAddr,
    process: Option<Process>,
}

/// A proxy; running or stopped. It keeps its addresses and its folder.
pub(crate) struct Proxy {
    name: String,
    folder: PathBuf,
    flags: Vec<String>,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Option<Process>,
}

impl Fleet {
    /// The fleet that tests share; they only write objects. It uses [`ApiServer::shared`].
    pub(crate) async fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceCell<Fleet> = OnceCell::const_new();
        SHARED.get_or_try_init(|| async { Self::start(ApiServer::shared().await?).await }).await
    }

    /// A separate fleet, ready, with two proxies.
    pub(crate) async fn start(server: &ApiServer) -> anyhow::Result<Self> {
        Self::of(server, 2).await
    }

    /// A separate fleet, ready, with `count` proxies.
    pub(crate) async fn of(server: &ApiServer, count: usize) -> anyhow::Result<Self> {
        let folder = server.folder.clone();
        let issued = issue("127.0.0.1");
        let (certificate, key) = (folder.join("stream.crt"), folder.join("stream.key"));
        std::fs::write(&certificate, &issued.chain_pem)?;
        std::fs::write(&key, &issued.key_pem)?;
        let (stream, admin, sts) = (address()?, address()?, address()?);
        let kubeconfig = server.operator_kubeconfig().await?;
        let flags = vec![
            format!("--stream-listen={stream}"),
            format!("--stream-cert={}", certificate.display()),
            format!("--stream-key={}", key.display()),
            format!("--admin={admin}"),
            format!("--sts-listen={sts}"),
            format!("--proxy-token-audience={AUDIENCE}"),
            format!("--proxy-service-account={SYSTEM}/sluice-proxy"),
            format!("--kubeconfig={}", kubeconfig.display()),
        ];
        let mut operator = Operator { folder: folder.clone(), flags, admin, sts, process: None };
        operator.start().await?;
        let token = folder.join("proxy.token");
        std::fs::write(&token, server.service_account_token("sluice-proxy", &[AUDIENCE]).await?)?;
        let mut proxies = Vec::new();
        for number in 0..count {
            let name = format!("proxy-{number}");
            let state = folder.join(format!("{name}.state"));
            std::fs::create_dir(&state)?;
            let (http, https, admin) = (address()?, address()?, address()?);
            let flags = vec![
                format!("--operator=https://{stream}"),
                format!("--operator-ca={}", certificate.display()),
                format!("--token-file={}", token.display()),
                format!("--state-dir={}", state.display()),
                format!("--http={http}"),
                format!("--https={https}"),
                format!("--admin={admin}"),
                format!("--name={name}"),
                "--threads=1".to_owned(),
            ];
            let mut proxy = Proxy { name, folder: folder.clone(), flags, http, admin, process: None };
            proxy.start().await?;
            proxies.push(proxy);
        }
        Ok(Self { operator, proxies, issued })
    }

    /// Sends the request to every proxy and returns the responses, one for each.
    pub(crate) async fn all(&self, call: &Call) -> anyhow::Result<Vec<Response>> {
        let mut responses = Vec::new();
        for proxy in &self.proxies {
            responses.push(call.send(proxy.http).await.with_context(|| format!("{} failed", proxy.name))?);
        }
        Ok(responses)
    }

    /// Sends the request to every proxy and returns the status code that all return; fails if they differ.
    pub(crate) async fn status(&self, call: &Call) -> anyhow::Result<u16> {
        let statuses: Vec<u16> = self.all(call).await?.iter().map(|response| response.status).collect();
        let first = *statuses.first().context("no proxies")?;
        anyhow::ensure!(statuses.iter().all(|&status| status == first), "the proxies differ: {statuses:?}");
        Ok(first)
    }
}

impl Operator {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let process = Process::start("operator", &program("sluice-operator")?, &self.flags, &self.folder)?;
        ready("the operator", self.process.insert(process), self.admin).await
    }

    /// Starts it without waiting.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        self.process = Some(Process::start("operator", &program("sluice-operator")?, &self.flags, &self.folder)?);
        Ok(())
    }

    /// Stops it, as Kubernetes does, and waits until it has ended.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        stop("the operator", self.process.take()).await
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Its log.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// CPU time of all its threads since its start.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.process.as_ref().context("the operator does not run")?.cpu()
    }

    /// The response of its `/metrics`.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Response> {
        get("admin", "/metrics").send(self.admin).await
    }
}

impl Proxy {
    /// Starts it and waits until it is ready, which it is once it serves a configuration.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let process = Process::start(&self.name, &program("sluice-proxy")?, &self.flags, &self.folder)?;
        ready(&self.name, self.process.insert(process), self.admin).await
    }

    /// Restarts it with the root certificates of a PEM file instead of those of the system.
    pub(crate) async fn restart_trusting(&mut self, roots: &Path) -> anyhow::Result<()> {
        self.restart_with(&[("SSL_CERT_FILE", roots)]).await
    }

    /// Restarts it with environment variables.
    pub(crate) async fn restart_with(&mut self, environment: &[(&str, &Path)]) -> anyhow::Result<()> {
        self.kill();
        let program = program("sluice-proxy")?;
        let process = Process::start_with(&self.name, &program, &self.flags, &self.folder, environment)?;
        ready(&self.name, self.process.insert(process), self.admin).await
    }

    /// Restarts it with a limit of file descriptors.
    pub(crate) async fn restart_with_descriptors(&mut self, limit: u32) -> anyhow::Result<()> {
        self.kill();
        let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        let mut arguments = vec!["-c".to_owned(), limited, program("sluice-proxy")?.display().to_string()];
        arguments.extend(self.flags.iter().cloned());
        let process = Process::start(&self.name, Path::new("/bin/sh"), &arguments, &self.folder)?;
        ready(&self.name, self.process.insert(process), self.admin).await
    }

    /// Starts it without waiting.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        self.process = Some(Process::start(&self.name, &program("sluice-proxy")?, &self.flags, &self.folder)?);
        Ok(())
    }

    /// The response of its `/readyz`.
    pub(crate) async fn readiness(&self) -> anyhow::Result<Response> {
        get("admin", "/readyz").send(self.admin).await
    }

    /// The response of its `/metrics`.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Response> {
        get("admin", "/metrics").send(self.admin).await
    }

    /// Another proxy of the same operator that has nothing on its disk and presents another token.
    pub(crate) fn newcomer(&self, name: &str, token: &str) -> anyhow::Result<Self> {
        let (state, file) = (self.folder.join(format!("{name}.state")), self.folder.join(format!("{name}.token")));
        std::fs::create_dir(&state)?;
        std::fs::write(&file, token)?;
        let (http, https, admin) = (address()?, address()?, address()?);
        let own = [
            format!("--token-file={}", file.display()),
            format!("--state-dir={}", state.display()),
            format!("--http={http}"),
            format!("--https={https}"),
            format!("--admin={admin}"),
            format!("--name={name}"),
        ];
        let name_of = |flag: &String| flag.split('=').next().unwrap_or_default().to_owned();
        let replaced: Vec<String> = own.iter().map(name_of).collect();
        let kept = self.flags.iter().filter(|&flag| !replaced.contains(&name_of(flag))).cloned();
        let flags = kept.chain(own).collect();
        Ok(Self { name: name.to_owned(), folder: self.folder.clone(), flags, http, admin, process: None })
    }

    /// Changes the time in which it accepts connections after the signal to stop; takes effect at its next start.
    pub(crate) fn drain_delay(&mut self, seconds: u64) {
        self.flags.retain(|flag| !flag.starts_with("--drain-delay="));
        self.flags.push(format!("--drain-delay={seconds}"));
    }

    /// Stops it, as Kubernetes does, and waits until it has ended.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        stop(&self.name, self.process.take()).await
    }

    /// The proxy with another fleet; to be started again.
    pub(crate) fn of_fleet(mut self, fleet: &str) -> Self {
        self.flags.retain(|flag| !flag.starts_with("--fleet="));
        self.flags.push(format!("--fleet={fleet}"));
        self
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Suspends it (`STOP`) or resumes it (`CONT`).
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.process.as_ref().context("the proxy is not running")?.signal(name)
    }

    /// Its log.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A file of its state directory, as soon as it contains `text`: a proxy does not wait for its disk.
    pub(crate) async fn saved(&self, file: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(format!("{}.state", self.name)).join(file);
        eventually(format!("{text:?} in {}", path.display()), SOON, || async {
            let found = std::fs::read_to_string(&path)?;
            anyhow::ensure!(found.contains(text), "the file does not contain it");
            Ok::<_, anyhow::Error>(found)
        })
        .await
    }

    /// Fails when it is not running any more.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("the proxy is not running")?.check()
    }
}

async fn stop(name: &str, process: Option<Process>) -> anyhow::Result<()> {
    let process = process.with_context(|| format!("{name} is not running"))?;
    process.signal("TERM")?;
    eventually(format!("{name} ends"), READY, || async { process.ended()?.context("it is still running") }).await?;
    Ok(())
}

async fn ready(name: &str, process: &Process, admin: SocketAddr) -> anyhow::Result<()> {
    let waited = eventually(format!("{name} is ready"), READY, || async {
        let response = get("admin", "/readyz").send(admin).await?;
        anyhow::ensure!(response.status == 200, "the response is: {}", response.body);
        Ok::<_, anyhow::Error>(())
    });
    tokio::select! {
        done = waited => done.with_context(|| format!("the end of its log:\n{}", process.tail())),
        // Fails before the deadline if it has ended.
        ended = async { loop {
            if let Err(error) = process.check() { return error }
            tokio::time::sleep(Duration::from_millis(50)).await;
        } } => Err(ended),
    }
}

fn address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], port()?)))
}

/// A program of the workspace, from the folder above the one of this test.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("SLUICE_PROGRAMS") {
        Some(folder) => PathBuf::from(folder), // a benchmark measures optimized programs
        None => {
            let test = std::env::current_exe()?;
            test.parent().and_then(Path::parent).context("this test is not in a build folder")?.to_owned()
        }
    };
    let program = folder.join(name);
    anyhow::ensure!(
        program.is_file(),
        "{} is not built: run `cargo build --workspace` first, or `make test`",
        program.display()
    );
    Ok(program)
}
