//! Starts the command, reads its output and sends requests to it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use sluice_kit::http1::send;
use sluice_kit::tls::{Issued, client_config};
use sluice_kit::{Http2, http1};
pub(crate) use sluice_kit::{Response, eventually};

/// Sends a request without a body on a connection of its own; or why there was no response.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> std::io::Result<Response> {
    http1::send(address, method, path, fields, "")
}

/// The status and body of a GET, or why there was none.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let response = http1::get(address, path)?;
    Ok((response.status, response.body))
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
    /// Serves `folder` on free ports and waits until it prints that it serves.
    pub(crate) fn dev(folder: &Path) -> Self {
        Self::dev_with(folder, &[])
    }

    /// The same with further arguments.
    pub(crate) fn dev_with(folder: &Path, more: &[&str]) -> Self {
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--sts", "127.0.0.1:0"];
        let sluice = Self::start(arguments.iter().chain(more).map(OsStr::new).chain([folder.as_os_str()]));
        sluice.wait_for("Press Ctrl-C to stop");
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

/// The status and body of a GET over TLS and HTTP/2 from `name`, whose certificate must be `certificate`.
pub(crate) fn get_tls(
    address: SocketAddr,
    name: &str,
    certificate: &Issued,
    path: &str,
) -> anyhow::Result<(u16, String)> {
    let client = Http2::connect_tls(address, name, client_config(&[certificate], &["h2", "http/1.1"]))?;
    let (status, body, _) = client.ask(http::Request::get(format!("https://{name}{path}")).body(Http2::empty())?);
    Ok((status, body))
}
