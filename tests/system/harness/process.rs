//! A program as a child process that ends with the tests, with its log file, folder and ports. Callers choose the program
//! and its flags.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;

/// Starts a watcher and becomes the program. The watcher kills the program as soon as the test process closes the pipe, in
/// whatever way it ends: statics are never dropped, and a killed test drops nothing. `over` means that the program has
/// ended, so that the watcher does not kill another process with the same id. The watcher ignores signals to the whole
/// process group (Ctrl-C): an API server that receives one as well waits for etcd, which has ended, and would stay.
const LIFELINE: &str = r#"exec 3<&0
(trap '' HUP INT TERM; read -r line <&3; [ "$line" = over ] || kill -KILL $$) &
exec "$0" "$@" 3<&- </dev/null"#;

/// A running program; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Mutex<Child>,
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, with its output appended to `NAME.log` in `folder`.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[String], folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(name, program, arguments, folder, &[])
    }

    /// The same with variables of its environment.
    pub(crate) fn start_with(
        name: &str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
        environment: &[(&str, &Path)],
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", LIFELINE])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lifeline = child.stdin.take();
        Ok(Self { name: name.to_owned(), child: Mutex::new(child), lifeline, log })
    }

    fn id(&self) -> u32 {
        self.child.lock().map_or_else(|poisoned| poisoned.into_inner().id(), |child| child.id())
    }

    /// Sends a signal by name: `STOP`, `CONT`, `TERM`.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.check()?;
        let status = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.id())]).status()?;
        anyhow::ensure!(status.success(), "cannot send SIG{name} to {}", self.name);
        Ok(())
    }

    /// How the program ended, if it did.
    pub(crate) fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self
            .child
            .lock()
            .map_err(|_| anyhow::anyhow!("a test panicked while it held the lock of {}", self.name))?;
        Ok(child.try_wait()?)
    }

    /// Fails, with the end of its log, when the program is not running any more.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.tail()),
        }
    }

    /// CPU time of the threads that it has.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanos = text.split_ascii_whitespace().next().context("an empty schedstat")?;
            total += Duration::from_nanos(nanos.parse()?);
        }
        Ok(total)
    }

    /// The whole log.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = matches!(self.ended(), Ok(Some(_)));
        if let (true, Some(pipe)) = (ended, self.lifeline.as_mut()) {
            // The write fails when the watcher has ended as well.
            pipe.write_all(b"over\n").ok();
        }
        self.lifeline = None;
        if let Ok(child) = self.child.get_mut() {
            child.wait().ok();
        }
    }
}

/// A folder for one set of programs. Folders of earlier runs are removed first; those of this run are kept for inspection.
pub(crate) fn folder(name: &str) -> anyhow::Result<PathBuf> {
    static SWEPT: std::sync::Once = std::sync::Once::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system");
    std::fs::create_dir_all(&base)?;
    SWEPT.call_once(|| sweep(&base));
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = base.join(format!("{}-{number}-{name}", std::process::id()));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default().to_owned();
        if owner == std::process::id().to_string() || !Path::new("/proc").join(&owner).exists() {
            // Another run may remove the same folder: then it does not exist here.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// A free port below the range of outgoing connections, so that no other process takes it meanwhile. A run does not use a
/// port twice.
pub(crate) fn port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent runs start at different ports.
    let start = 18_000 + u16::try_from(std::process::id() % 130)? * 100;
    for _ in 0..2_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 18_000 + (start - 18_000 + step) % 13_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port from 18000 to 31000")
}
