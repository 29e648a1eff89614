//! The screen: a client looks at it, and may use keyboard and mouse, or gets a picture of it.
//!
//! For a viewer, after the head of the reply, the connection carries RFB, as between a VNC server and a viewer. The thread of the request ends then:
//! the viewer has the threads of one, wherever it comes from.

use crate::control::error::Problem;
use crate::control::exchange::{Answered, Exchange, Reply};
use crate::vsp::screen::set::ScreenError;

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Shows the screen to a viewer that uses keyboard and mouse.
pub fn view(exchange: &Exchange<'_>) -> Answered {
    show(exchange, false)
}

/// Shows the screen to a viewer whose keys and buttons are dropped.
pub fn watch(exchange: &Exchange<'_>) -> Answered {
    show(exchange, true)
}

fn show(exchange: &Exchange<'_>, only_watches: bool) -> Answered {
    let viewer = exchange.stream.try_clone().map_err(|error| Problem::host(error.to_string()))?;
    exchange.with(|machine| machine.screen().show_to(viewer, HEAD, only_watches))??;
    Ok(Reply::Sent)
}

/// Sends what the screen shows, as a PNG file.
pub fn picture(exchange: &Exchange<'_>) -> Answered {
    let picture = exchange.with(|machine| machine.screen().picture())?.map_err(|error| match error {
        ScreenError::NoScreen => Problem::not_found(error.to_string()),
        other => other.into(),
    })?;
    let png = picture.to_png().map_err(|error| Problem::host(format!("the picture cannot be written: {error}")))?;
    Ok(Reply::Bytes("image/png", png))
}

impl From<ScreenError> for Problem {
    fn from(error: ScreenError) -> Self {
        let message = error.to_string();
        match error {
            ScreenError::Crowded => Self::busy(message),
            ScreenError::Vnc(_) | ScreenError::Add(_) | ScreenError::Offer(_) => Self::host(message),
            _ => Self::state(message),
        }
    }
}
