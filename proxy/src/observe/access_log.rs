//! The access log: one JSON line per request. Each worker thread adds lines to its own buffer; the log's thread takes and
//! writes them. A reader that is too slow loses lines and never delays requests; lost lines are counted. Each
//! field is a variable.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use prometheus::IntCounter;
use sluice_wire::{CertificateField, Variable};

use super::record::Record;
use crate::template::{Value, Variables};

/// Bytes of lines that may wait, per worker thread.
const MAX_WAITING: usize = 1 << 20;
/// How long lines are collected before they are written together: woken for each line, the log's thread would preempt a
/// worker for each request.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Longer texts from outside are cut.
const MAX_TEXT: usize = 1024;

/// The log, and the thread that writes it.
pub(crate) struct AccessLog {
    shared: Arc<LogBuffers>,
    writer: Option<JoinHandle<()>>,
    dropped: IntCounter,
}

struct LogBuffers {
    /// Lines that wait, one buffer per worker thread.
    waiting: Box<[Mutex<String>]>,
    stop: AtomicBool,
}

impl AccessLog {
    /// Starts the writing thread; without a sink nothing is written.
    pub(crate) fn start(
        sink: Option<Box<dyn Write + Send>>,
        workers: usize,
        dropped: IntCounter,
    ) -> std::io::Result<Self> {
        let waiting = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        let shared = Arc::new(LogBuffers { waiting, stop: AtomicBool::new(false) });
        let start = |sink| {
            let shared = shared.clone();
            std::thread::Builder::new().name("access-log".into()).spawn(move || write(sink, &shared))
        };
        let writer = sink.map(start).transpose()?;
        Ok(Self { shared, writer, dropped })
    }

    /// Adds the line of a request that the worker thread served.
    pub(crate) fn write(&self, worker: usize, record: &Record<'_, impl Variables>) {
        let Some(writer) = &self.writer else { return };
        let at = worker.min(self.shared.waiting.len() - 1);
        let mut waiting = locked(&self.shared.waiting[at]);
        if waiting.len() >= MAX_WAITING {
            self.dropped.inc();
            return;
        }
        let first = waiting.is_empty();
        line(&mut waiting, record);
        drop(waiting);
        if first {
            writer.thread().unpark();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        self.shared.stop.store(true, Ordering::Release);
        writer.thread().unpark();
        let deadline = Instant::now() + LAST_LINES;
        while !writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn locked(waiting: &Mutex<String>) -> MutexGuard<'_, String> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(mut sink: Box<dyn Write + Send>, shared: &LogBuffers) {
    let mut taken = String::new();
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        let mut found = false;
        for waiting in &shared.waiting {
            taken.clear();
            // The worker gets the empty buffer back, with its capacity.
            std::mem::swap(&mut *locked(waiting), &mut taken);
            found |= !taken.is_empty();
            if let Err(error) = sink.write_all(taken.as_bytes()) {
                tracing::debug!(%error, "cannot write the access log");
            }
        }
        if found && let Err(error) = sink.flush() {
            tracing::debug!(%error, "cannot write the access log");
        }
        match (stop, found) {
            (true, false) => return,
            (true, true) => {}
            (false, true) => std::thread::sleep(GATHER),
            (false, false) => {
                std::thread::park();
                std::thread::sleep(GATHER);
            }
        }
    }
}

static ISSUER: Variable = Variable::Claim(Cow::Borrowed("iss"));

static SUBJECT: Variable = Variable::ClientCertificate(CertificateField::Subject);
static FINGERPRINT: Variable = Variable::ClientCertificate(CertificateField::Fingerprint);

fn line(out: &mut String, record: &Record<'_, impl Variables>) {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let variables = record.variables;
    out.push_str(r#"{"time":"#);
    thousandths(out, time.as_secs() * 1000 + u64::from(time.subsec_millis()));
    field(out, r#","requestId":""#, variables, &Variable::RequestId);
    if let Some((_, Some(stage))) = record.stage {
        out.push_str(stage);
    }
    if let Some((_, rule)) = record.rule {
        out.push_str(rule);
    }
    field(out, r#","method":""#, variables, &Variable::HttpMethod);
    field(out, r#","scheme":""#, variables, &Variable::Scheme);
    field(out, r#","host":""#, variables, &Variable::DomainName);
    field(out, r#","path":""#, variables, &Variable::Path);
    field(out, r#","protocol":""#, variables, &Variable::Protocol);
    field(out, r#","status":"#, variables, &Variable::Status);
    field(out, r#","durationMs":"#, variables, &Variable::ResponseLatency);
    field(out, r#","bytes":"#, variables, &Variable::ResponseLength);
    field(out, r#","sourceIp":""#, variables, &Variable::SourceIp);
    field(out, r#","upstreamMs":"#, variables, &Variable::IntegrationLatency);
    field(out, r#","upstreamError":""#, variables, &Variable::IntegrationError);
    field(out, r#","reason":""#, variables, &Variable::ErrorReason);
    field(out, r#","deniedBy":""#, variables, &Variable::DeniedBy);
    field(out, r#","responseType":""#, variables, &Variable::ErrorResponseType);
    field(out, r#","cache":""#, variables, &Variable::CacheStatus);
    field(out, r#","issuer":""#, variables, &ISSUER);
    field(out, r#","subject":""#, variables, &Variable::PrincipalId);
    field(out, r#","certificateSubject":""#, variables, &SUBJECT);
    field(out, r#","certificateFingerprint":""#, variables, &FINGERPRINT);
    field(out, r#","apiKey":""#, variables, &Variable::ApiKeyId);
    field(out, r#","customerId":""#, variables, &Variable::CustomerId);
    field(out, r#","usagePlan":""#, variables, &Variable::UsagePlanId);
    if !record.complete {
        out.push_str(r#","aborted":true"#);
    }
    out.push_str("}\n");
}

/// Writes a variable that has a value. `before` is `,"name":`, with a quotation mark at its end where the value is text:
/// one literal, of a length that the compiler knows.
#[inline(always)] // Together with `get` each call becomes what its variable needs.
fn field(out: &mut String, before: &'static str, variables: &impl Variables, variable: &Variable) {
    match variables.get(variable) {
        None => {}
        Some(Value::Text(value)) => text(out, before, &value),
        Some(Value::Plain(value)) => fixed(out, before, value),
        Some(Value::Number(value)) => number(out, before, value),
        Some(Value::Time(value)) => millis(out, before, value),
    }
}

/// The part of each line that names its stage: `context.stageId`.
pub(crate) fn of_stage(stage: &str) -> Box<str> {
    let mut out = String::new();
    text(&mut out, r#","stage":""#, stage);
    out.into()
}

/// The part of each line that names its route and rule: `context.route` and `context.rule`.
pub(crate) fn of_rule(route: &str, rule: &str) -> Box<str> {
    let mut out = String::new();
    text(&mut out, r#","route":""#, route);
    text(&mut out, r#","rule":""#, rule);
    out.into()
}

#[inline]
fn number(out: &mut String, before: &'static str, value: u64) {
    out.push_str(before);
    out.push_str(itoa::Buffer::new().format(value));
}

#[inline]
fn millis(out: &mut String, before: &'static str, took: Duration) {
    out.push_str(before);
    thousandths(out, took.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(took.subsec_micros())));
}

/// `12.034` of 12034.
fn thousandths(out: &mut String, count: u64) {
    let mut buffer = itoa::Buffer::new();
    let (whole, rest) = if count < 1000 {
        // With a digit in front, so that no zero is lost.
        ("0", buffer.format(count + 1000).get(1..).unwrap_or_default())
    } else {
        let digits = buffer.format(count);
        digits.split_at_checked(digits.len() - 3).unwrap_or_default()
    };
    out.push_str(whole);
    out.push('.');
    out.push_str(rest);
}

/// A text of the proxy, which needs no escaping.
#[inline]
fn fixed(out: &mut String, before: &'static str, value: &str) {
    out.push_str(before);
    out.push_str(value);
    out.push('"');
}

/// A text from outside, escaped and cut.
#[inline]
fn text(out: &mut String, before: &'static str, value: &str) {
    out.push_str(before);
    escape(out, value);
    out.push('"');
}

fn escape(out: &mut String, value: &str) {
    let mut end = value.len().min(MAX_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = value.get(..end).unwrap_or_default();
    // A fold without early exit: the compiler compares many bytes at once.
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\');
    if value.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Writing into a String cannot fail.
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_requests_is_escaped_into_one_json_string() {
        let mut out = String::from(r#"{"a":1"#);
        text(&mut out, r#","path":""#, "a\"b\\c\n\u{1}é");
        text(&mut out, r#","long":""#, &"é".repeat(MAX_TEXT));
        out.push('}');
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["path"], "a\"b\\c\n\u{1}é");
        assert_eq!(value["long"].as_str().unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn times_have_three_places() {
        let mut out = String::new();
        for micros in [0, 7, 34, 999, 1000, 12_034, 86_400_000_000] {
            millis(&mut out, ",", Duration::from_micros(micros));
        }
        number(&mut out, r#","b":"#, 7);
        assert_eq!(out, r#",0.000,0.007,0.034,0.999,1.000,12.034,86400000.000,"b":7"#);
    }

    /// A sink that accepts nothing until the flag is set.
    struct Slow(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            while !self.1.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_all_threads_are_written_and_the_last_ones_before_the_end() {
        let (taken, open) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let dropped = IntCounter::new("dropped_total", "Dropped.").unwrap();
        let sink = Slow(Arc::clone(&taken), open.clone());
        let log = AccessLog::start(Some(Box::new(sink)), 2, dropped).unwrap();
        for (at, lines) in [(0, "a\nb\n"), (1, "c\n")] {
            locked(&log.shared.waiting[at]).push_str(lines);
        }
        open.store(true, Ordering::Relaxed);
        drop(log);
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["a", "b", "c"]);
    }
}
