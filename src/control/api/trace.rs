//! The trace of a running machine: decoded messages and packets as they come.

use std::time::Duration;

use serde_json::json;

use crate::config::{Trace, TraceKind};
use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::control::http::EventStream;
use crate::engine::Traced;

/// The time after which an idle connection is found to be dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Maximum number of words of a filter.
const MAX_WORDS: usize = 16;

/// Returns the kinds in the path, such as `vmbus,storage`.
fn kinds(text: &str) -> Result<Vec<TraceKind>, Problem> {
    if text.contains('=') {
        return Err(Problem::invalid(format!("{text:?}: a trace that is followed has no file")));
    }
    Ok(text.parse::<Trace>().map_err(Problem::invalid)?.kinds)
}

/// Sends the events of some kinds, until the client goes or the machine ends. The path may have words that all lines have.
pub fn follow(exchange: &Exchange<'_>) -> Answered {
    let kinds = kinds(exchange.name(0))?;
    let words: Vec<_> = exchange.name(1).to_lowercase().split(';').map(|word| word.trim().to_owned()).collect();
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.len() > MAX_WORDS {
        return Err(Problem::invalid(format!("a filter has at most {MAX_WORDS} parts")));
    }
    let follower = exchange.with(|machine| machine.follow_trace(kinds, words))?;
    let follower = follower.ok_or_else(|| Problem::busy("too many clients follow the trace; try again later"))?;
    let Ok(mut stream) = EventStream::start(exchange.stream) else { return Ok(Reply::Sent) };
    loop {
        let sent = match follower.next(KEEP_ALIVE) {
            Traced::Lines(dropped, lines) => {
                let lost = (dropped > 0).then(|| json!({ "event": "dropped", "count": dropped }));
                let lines = lines.into_iter().map(|line| {
                    json!({ "event": "trace", "time": line.time.as_secs_f64(), "kind": line.kind, "line": line.text })
                });
                lost.into_iter().chain(lines).try_for_each(|event| stream.send(None, &event))
            }
            Traced::Nothing => stream.keep_alive(),
            Traced::Over => return Ok(Reply::Sent),
        };
        if sent.is_err() {
            return Ok(Reply::Sent);
        }
    }
}
