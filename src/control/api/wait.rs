//! A client waits for what the screen shows.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::vsp::video::lookout::{Missing, Seen, Sight};
use crate::vsp::video::picture::Picture;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    /// The text that is waited for.
    text: Option<String>,
    /// The PNG file with the picture that is waited for.
    picture: Option<PathBuf>,
    /// The largest difference of a colour.
    #[serde(default)]
    tolerance: u8,
    /// The PNG file for the difference, if the picture does not come.
    difference: Option<PathBuf>,
    limit_seconds: Option<f64>,
}

impl Body {
    fn sight(&self) -> Result<Sight, Problem> {
        match (&self.text, &self.picture) {
            (Some(text), None) if !text.is_empty() => Ok(Sight::Text(text.clone())),
            (None, Some(path)) => {
                let is_relative = |path: &PathBuf| !path.is_absolute();
                if let Some(path) =
                    [Some(path), self.difference.as_ref()].into_iter().flatten().find(|path| is_relative(path))
                {
                    return Err(Problem::invalid(format!("{}: the path must be absolute", path.display())));
                }
                let picture = Picture::open(path);
                let picture = picture.map_err(|error| Problem::invalid(format!("{}: {error}", path.display())))?;
                Ok(Sight::Picture(picture, self.tolerance))
            }
            _ => Err(Problem::invalid("the body names a text or a picture")),
        }
    }
}

/// Waits until the screen shows a text or a picture. The wait ends if the client goes.
pub fn wait(exchange: &Exchange<'_>) -> Answered {
    let body: Body = exchange.request.json()?;
    let sight = body.sight()?;
    let limit = body.limit_seconds.map(Duration::try_from_secs_f64).transpose();
    let limit = limit.map_err(|error| Problem::invalid(format!("limit-seconds: {error}")))?;
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    let host = |error: std::io::Error| Problem::host(format!("the screen cannot be watched: {error}"));
    let lookout = exchange.with(|machine| machine.screen().lookout())?;
    let lookout = lookout.map_err(|error| Problem::not_found(error.to_string()))?.map_err(host)?;
    match lookout.wait_for(&sight, until, Some(exchange.stream.as_fd())).map_err(host)? {
        Seen::Yes => Ok(Reply::Json(json!({ "seen": true }))),
        Seen::Late(missing) => {
            let message = described(&missing, &body);
            Ok(Reply::Json(json!({ "seen": false, "message": message })))
        }
        Seen::Over(missing) => Err(Problem::ended(format!("the machine has ended; {}", described(&missing, &body)))),
        // Nobody reads an answer.
        Seen::Interrupted => Ok(Reply::Sent),
    }
}

/// Writes the difference to its file, and returns what is missing in words.
fn described(missing: &Missing, body: &Body) -> String {
    match (missing, &body.difference) {
        (Missing::Picture(difference), Some(path)) => match difference.picture.save(path) {
            Ok(()) => format!("{missing}; {} shows them in red", path.display()),
            Err(error) => format!("{missing}; {} cannot be written: {error}", path.display()),
        },
        _ => missing.to_string(),
    }
}
