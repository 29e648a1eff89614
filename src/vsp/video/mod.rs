//! Synthetic video (Linux: `hyperv_drm`, `hyperv_fb`): a screen whose pixels are guest memory.
//!
//! - [`wire`]: the messages; [`protocol`]: the screen as a state machine; [`sizes`]: its sizes; [`edid`]: its description for
//!   Windows; [`view`] and [`picture`]: what is to be seen; [`early`]: what a kernel draws before it has a driver; [`pointer`]: the
//!   guest's pointer; [`damage`]: what was drawn.
//! - [`text`]: reads a console's text off a picture; [`lookout`]: waits for a text or a picture.
//! - [`device`]: the screen as a device of its machine.

pub mod damage;
pub mod device;
pub mod early;
pub mod edid;
pub mod lookout;
pub mod picture;
pub mod pointer;
pub mod protocol;
pub mod recording;
pub mod sizes;
#[cfg(any(test, feature = "_internals"))]
pub mod testing;
pub mod text;
pub mod view;
pub mod wire;
pub mod writes;
