//! Copying a file into the guest.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde_json::{Value, json};

use super::services::service;
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::control::http::EventStream;
use crate::vsp::services::file_copy::Copy;
use crate::vsp::services::table::Kind;
use crate::vsp::services::{Answer, Request};

/// The time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(250);
/// The time after which a client that has gone is noticed if there is no progress.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    /// Absolute path on the host.
    source: PathBuf,
    /// Absolute path in the guest.
    target: String,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    make_path: bool,
}

/// Copies a file. The copy is cancelled if the client goes.
pub fn copy(exchange: &Exchange<'_>) -> Answered {
    let Body { source, target, overwrite, make_path } = exchange.request.json()?;
    if !source.is_absolute() {
        return Err(Problem::invalid(format!("{}: the path of the source must be absolute", source.display())));
    }
    let wrong = |error: String| Problem::invalid(format!("{}: {error}", source.display()));
    // A named pipe without a writer must not block.
    let file = rustix::fs::open(&source, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = File::from(file.map_err(|error| wrong(error.to_string()))?);
    let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_file() {
        return Err(wrong("it is not a regular file; pack a folder into one first".into()));
    }
    let size = metadata.len();
    let service = service(exchange, Kind::FileCopy)?;
    let asked = service.ask(Request::Copy(Copy { target, overwrite, make_path, size, source: Box::new(file) }))?;
    let Ok(mut stream) = EventStream::start(exchange.stream) else { return Ok(Reply::Sent) };
    let (mut last, mut sent) = (Value::Null, Instant::now());
    let outcome = loop {
        if let Some(outcome) = asked.wait(PROGRESS) {
            break outcome;
        }
        let status = serde_json::to_value(service.status()).unwrap_or_default();
        let progress = &status["copying"]["copied-bytes"];
        let is_there = if !progress.is_null() && *progress != last {
            last = progress.clone();
            sent = Instant::now();
            stream.send(None, &json!({ "event": "progress", "copied-bytes": progress, "total-bytes": size }))
        } else if sent.elapsed() >= KEEP_ALIVE {
            sent = Instant::now();
            stream.keep_alive()
        } else {
            Ok(())
        };
        if is_there.is_err() {
            return Ok(Reply::Sent);
        }
    };
    // A client that does not take the last words has gone.
    let _ = match outcome {
        Ok(Answer::Copied(bytes)) => stream.send(None, &json!({ "event": "copied", "bytes": bytes })),
        Ok(other) => stream.fail(&Problem::host(format!("the service gives another answer: {other:?}"))),
        Err(failure) => stream.fail(&failure.into()),
    };
    Ok(Reply::Sent)
}
