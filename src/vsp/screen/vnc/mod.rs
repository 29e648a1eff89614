//! A VNC server (RFB 3.3, 3.7 and 3.8): viewers see the screen and use keyboard and mouse.
//!
//! Each viewer has two threads of its own, so one that does not read holds neither the guest nor other viewers. What a viewer has not
//! been sent is noted in tiles, so a slow viewer gets fewer pictures and costs no more memory.
//!
//! - [`address`]: where the server listens; [`server`]: the sockets and the threads; [`show`]: what the threads share;
//!   [`device`]: what `inspect` shows of them.
//! - [`viewer`]: one viewer; [`connection`]: its socket; [`greeting`]: the start; [`password`]: its password;
//!   [`tls`]: encryption.
//! - [`stage`]: the picture; [`seat`]: what each viewer has not seen of it, as [`missing`] parts; [`turn`]: what it is sent next; [`scroll`]: what has only moved; [`scanner`]: reads it
//!   from the guest.
//! - [`messages`]: what a viewer sends; [`format`]: pixels; [`encoder`], [`zrle`], [`tight`], [`deflate`]: rectangles; [`update`]: what they are sent in;
//!   [`input`]: keys and buttons.

pub mod address;
mod connection;
mod deflate;
mod device;
mod encoder;
mod format;
mod greeting;
mod input;
mod messages;
mod missing;
#[cfg(not(feature = "cli"))]
mod no_tls;
mod password;
mod scanner;
mod scroll;
mod seat;
pub mod server;
pub mod show;
mod stage;
mod tight;
#[cfg(feature = "cli")]
mod tls;
#[cfg(any(test, feature = "_internals"))]
pub mod trial;
mod turn;
mod update;
mod viewer;
mod zrle;

#[cfg(not(feature = "cli"))]
use no_tls as tls;
