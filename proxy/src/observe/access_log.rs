//! The access log: one JSON line for each request, written by a thread of its own. A reader that is too slow loses lines,
//! never delays requests; lost lines are counted. What happened to a request is the exchange's knowledge.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime};

use http::Version;
use prometheus::IntCounter;

use crate::exchange::Exchange;

/// Lines that may wait.
const QUEUE: usize = 16 * 1024;
/// Lines gather for so long before they are written together.
const GATHER: Duration = Duration::from_millis(10);
/// Longer texts from outside are cut.
const MAX_TEXT: usize = 1024;

/// Where lines go.
pub(crate) struct AccessLog {
    lines: Option<SyncSender<String>>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the writing thread; without a sink nothing is written.
    pub(crate) fn start(sink: Option<Box<dyn Write + Send>>, dropped: IntCounter) -> std::io::Result<Self> {
        let Some(sink) = sink else { return Ok(Self { lines: None, dropped }) };
        let (lines, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(sink, &receiver))?;
        Ok(Self { lines: Some(lines), dropped })
    }

    pub(crate) fn write(&self, exchange: &Exchange) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(line(exchange)).is_err() {
            self.dropped.inc();
        }
    }
}

fn write(sink: Box<dyn Write + Send>, lines: &Receiver<String>) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, sink);
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Empty) => {
                if let Err(error) = out.flush() {
                    tracing::debug!(%error, "cannot write the access log");
                }
                let Ok(line) = lines.recv() else { return };
                // Woken for each line, this thread would push a worker off its core for each request.
                std::thread::sleep(GATHER);
                line
            }
            Err(TryRecvError::Disconnected) => return,
        };
        if let Err(error) = out.write_all(line.as_bytes()) {
            tracing::debug!(%error, "cannot write the access log");
        }
    }
}

fn line(exchange: &Exchange) -> String {
    let mut out = String::with_capacity(512);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Writing into a String cannot fail.
    write!(out, r#"{{"time":{}.{:03},"requestId":"{}""#, time.as_secs(), time.subsec_millis(), exchange.id.as_str())
        .unwrap_or_default();
    if let Some(stage) = &exchange.stage {
        text(&mut out, "stage", &stage.object.id());
    }
    if let Some(rule) = &exchange.rule {
        text(&mut out, "route", &rule.object.name);
        text(&mut out, "rule", &rule.name);
    }
    text(&mut out, "method", exchange.method.as_str());
    text(&mut out, "scheme", if exchange.tls { "https" } else { "http" });
    text(&mut out, "host", &exchange.host);
    text(&mut out, "path", &exchange.path);
    let protocol = match exchange.version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    };
    let took = exchange.started.elapsed().as_micros();
    write!(
        out,
        r#","protocol":"{protocol}","status":{},"durationMs":{}.{:03},"bytes":{},"sourceIp":"{}""#,
        exchange.status,
        took / 1000,
        took % 1000,
        exchange.sent,
        exchange.source,
    )
    .unwrap_or_default();
    if let Some(upstream) = exchange.upstream {
        let took = upstream.as_micros();
        write!(out, r#","upstreamMs":{}.{:03}"#, took / 1000, took % 1000).unwrap_or_default();
    }
    if !exchange.reason.is_empty() {
        text(&mut out, "reason", exchange.reason);
    }
    if !exchange.cache.is_empty() {
        text(&mut out, "cache", exchange.cache);
    }
    if let Some(caller) = &exchange.caller {
        text(&mut out, "issuer", &caller.issuer);
        text(&mut out, "subject", caller.subject.as_deref().unwrap_or_default());
    }
    if let Some(key) = &exchange.key {
        text(&mut out, "apiKey", &key.id);
    }
    if !exchange.complete {
        out.push_str(r#","aborted":true"#);
    }
    out.push_str("}\n");
    out
}

fn text(out: &mut String, name: &str, value: &str) {
    write!(out, r#","{name}":""#).unwrap_or_default();
    let mut end = value.len().min(MAX_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    for c in value.get(..end).unwrap_or_default().chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_one_json_string() {
        let mut out = String::from(r#"{"a":1"#);
        text(&mut out, "path", "a\"b\\c\n\u{1}é");
        text(&mut out, "long", &"é".repeat(MAX_TEXT));
        out.push('}');
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["path"], "a\"b\\c\n\u{1}é");
        assert_eq!(value["long"].as_str().unwrap().len(), MAX_TEXT);
    }
}
