//! Starting the command, reading what it prints, and asking what it serves.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Nothing here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The repository's examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// A folder that is deleted at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A copy of an example.
    pub(crate) fn copy_of(example: &str) -> Self {
        let folder = Self::new();
        for entry in std::fs::read_dir(examples().join(example)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.0.join(entry.file_name())).unwrap();
        }
        folder
    }

    /// Writes a file as editors do: beside it, then over it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let beside = self.0.join(format!(".{name}.new"));
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.0.join(name)).unwrap();
    }

    /// A file's text.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A running `sluice dev`.
pub(crate) struct Sluice {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Sluice {
    /// Serves `folder` on free ports and waits until it says so.
    pub(crate) fn dev(folder: &Path) -> Self {
        Self::dev_with(folder, &[])
    }

    /// The same with further arguments.
    pub(crate) fn dev_with(folder: &Path, more: &[&str]) -> Self {
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let sluice = Self::start(arguments.iter().chain(more).map(OsStr::new).chain([folder.as_os_str()]));
        sluice.wait_for("Ctrl-C ends it");
        sluice
    }

    /// Runs the example backend on a free port.
    pub(crate) fn backend(name: &str) -> Self {
        let arguments = ["example", "backend", "--listen", "127.0.0.1:0", "--name", name];
        let sluice = Self::start(arguments.iter().map(OsStr::new));
        sluice.wait_for("listening on");
        sluice
    }

    fn start<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().unwrap(), printed.clone());
        follow(child.stderr.take().unwrap(), printed.clone());
        Self { child, printed }
    }

    /// Everything printed so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Waits until it has printed `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        eventually(text, || {
            let printed = self.printed();
            assert!(!printed.contains("sluice: "), "{printed}");
            printed.contains(text).then_some(())
        });
    }

    /// Where it serves the API.
    pub(crate) fn address(&self) -> SocketAddr {
        let printed = self.printed();
        let rest = printed.split("http://").nth(1).unwrap();
        rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    /// The lines that it offers to paste.
    pub(crate) fn offered(&self) -> Vec<String> {
        let printed = self.printed();
        let lines = printed.lines().skip_while(|line| !line.starts_with("Try it"));
        lines.filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
    }

    /// Asks it to stop and waits for it.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        eventually("the command ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn follow(stream: impl std::io::Read + Send + 'static, printed: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut printed = printed.lock().unwrap();
            printed.push_str(&line);
            printed.push('\n');
        }
    });
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends a request without a body on a connection of its own; or why there was no answer.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> std::io::Result<Answer> {
    send(address, method, path, fields, "")
}

/// The same with a body.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    content: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !content.is_empty() {
        request.push_str(&format!("content-length: {}\r\n", content.len()));
    }
    stream.write_all(format!("{request}\r\n{content}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let bad = || std::io::Error::other(format!("not an answer: {answer:?}"));
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// The status and body of a GET, or why there was none.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let answer = ask(address, "GET", path, &[])?;
    Ok((answer.status, answer.body))
}

/// The status and body of a GET over TLS and HTTP/2 from `name`, whose certificate must be `certificate`.
pub(crate) fn get_tls(
    address: SocketAddr,
    name: &'static str,
    certificate: &CertificateDer<'static>,
    path: &str,
) -> anyhow::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let call = async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from(name)?, stream).await?;
        anyhow::ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "HTTP/2 was not chosen");
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(async move { connection.await.ok() });
        let request = http::Request::get(format!("https://{name}{path}")).body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        #[expect(clippy::disallowed_methods, reason = "the body is limited")]
        let body = Limited::new(body, 1 << 20).collect().await.map_err(|error| anyhow::anyhow!("no body: {error}"))?;
        Ok((head.status.as_u16(), String::from_utf8(body.to_bytes().into())?))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(DEADLINE, call).await? })
}
