//! The service `viridian serve`.

mod hostile;
mod lives;
mod service;
mod use_of;
